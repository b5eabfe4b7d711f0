from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import PermanentTaskError
from engine.models.client import Turn
from tests.engine.workflow.columns.cells import Answers, generator, make, workflow

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def request_of(column: dict[str, Any], values: dict[str, Any], folder: Path = Path()) -> Any:
    """The request for a row."""
    models = Answers("fine")
    made_by = generator(
        {"type": "llm_text", "model": "writer", "prompt": "Hi", **column}, *values, folder=folder
    )
    assert make(made_by, dict(values), models) == "fine"
    [request] = models.requests
    return request


def test_examples_and_messages_come_before_the_prompt() -> None:
    request = request_of(
        {
            "system": "Be {{ tone }}.",
            "examples": [{"prompt": "1 + 1", "answer": "2"}],
            "messages": [
                {"role": "user", "text": "My name is {{ name }}."},
                {"role": "assistant", "text": "Hello {{ name }}."},
            ],
            "prompt": "Who am I?",
        },
        {"tone": "brief", "name": "Ada"},
    )
    assert request.system == "Be brief."
    assert request.turns == (
        Turn("user", "1 + 1"),
        Turn("assistant", "2"),
        Turn("user", "My name is Ada."),
        Turn("assistant", "Hello Ada."),
    )
    assert request.prompt == "Who am I?"


def test_every_template_of_a_conversation_is_a_dependency() -> None:
    made = workflow(
        *({"name": name, "type": "sampler", "values": ["v"]} for name in "abcdef"),
        {
            "name": "x",
            "type": "llm_text",
            "model": "writer",
            "prompt": "Hi",
            "system": "{{ a }}",
            "examples": [{"prompt": "{{ b }}", "answer": "{{ c }}"}],
            "messages": [{"role": "user", "text": "{{ d }}", "images": ["{{ e }}"]}],
            "images": ["{{ f }}"],
        },
    )
    assert made.graph.depends_on["x"] == tuple("abcdef")


def test_a_column_overrides_the_parameters_of_its_model() -> None:
    request = request_of(
        {
            "temperature": 1.5,
            "top_p": 0.5,
            "stop": ["."],
            "seed": 3,
            "max_completion_tokens": 9,
            "timeout_seconds": 2,
            "extra_body": {"top_k": 4},
        },
        {},
    )
    assert (request.temperature, request.max_tokens, request.timeout_seconds) == (1.5, None, 2)
    assert request.options == {
        "top_p": 0.5,
        "stop": ["."],
        "seed": 3,
        "max_completion_tokens": 9,
        "top_k": 4,
    }
    plain = request_of({}, {})
    assert (plain.temperature, plain.max_tokens, plain.timeout_seconds) == (0.5, 50, 120)
    assert plain.options == {}


def test_images_are_addresses_or_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(PNG)
    request = request_of(
        {"images": ["https://host/{{ name }}.jpg", "pictures/{{ name }}.png", "{{ nothing }}"]},
        {"name": "one", "nothing": ""},
        tmp_path,
    )
    encoded = base64.b64encode(PNG).decode()
    assert request.images == ("https://host/one.jpg", f"data:image/png;base64,{encoded}")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "words.png", "gone"])
def test_no_image_comes_from_elsewhere_or_is_something_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    (folder / "words.png").write_text("private words")
    with pytest.raises(PermanentTaskError) as caught:
        request_of({"images": ["{{ name }}"]}, {"name": name}, folder)
    assert caught.value.error_type == "BadImage"
    assert name not in caught.value.message


@pytest.mark.parametrize(
    ("column", "where"),
    [
        ({"examples": [{"prompt": "{{ broken", "answer": "a"}]}, "broken template"),
        ({"messages": [{"role": "robot", "text": "a"}]}, "messages"),
        ({"images": ["{{ broken"]}, "broken template"),
        ({"temperature": "hot"}, "temperature"),
        ({"extra_body": {"messages": []}}, "extra_body must not hold messages"),
    ],
)
def test_mistakes_in_a_conversation_are_refused(column: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        workflow({"name": "x", "type": "llm_text", "model": "writer", "prompt": "Hi", **column})
