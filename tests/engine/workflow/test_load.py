from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.workflow.load import LoadedWorkflow, load_workflow
from engine.workflow.schema import CustomColumn

GOOD = """\
name: small
records: 3
providers: { p: { type: scripted } }
models: { writer: { provider: p, model: m } }
columns:
  - { name: topic, type: sampler, values: [a, b] }
  - { name: text, type: llm_text, model: writer, prompt: "About {{ topic }}." }
"""


@pytest.fixture(autouse=True)
def _import_state() -> Iterator[None]:
    path, modules = sys.path.copy(), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("headgate_user_"):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_workflow(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", ["w.yaml", "w.yml"])
def test_yaml(name: str, tmp_path: Path) -> None:
    loaded = load_workflow(write(tmp_path, name, GOOD))
    assert loaded.workflow.name == "small"
    assert loaded.workflow.graph.order == ("topic", "text")
    assert loaded.path == tmp_path / name


def test_a_module_that_exports_a_dictionary_or_a_workflow(tmp_path: Path) -> None:
    columns = "[dict(name='x', type='sampler', uuid=True)]"
    as_dict = f"workflow = dict(name='d', records=1, columns={columns})\n"
    assert load_workflow(write(tmp_path, "d.py", as_dict)).workflow.name == "d"
    as_model = (
        "from engine.workflow.schema import Workflow, SamplerColumn\n"
        "workflow = Workflow(name='m', records=1, columns=[SamplerColumn(name='x', uuid=True)])\n"
    )
    assert load_workflow(write(tmp_path, "m.py", as_model)).workflow.name == "m"


def test_functions_are_found_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "from others import up\ndef shout(row): return up(row['topic'])\n")
    write(tmp_path, "others.py", "def up(text): return text.upper()\n")
    write(tmp_path, "package/inner.py", "def low(row): return row['topic'].lower()\n")
    path = write(
        tmp_path,
        "w.yaml",
        GOOD
        + "  - { name: loud, type: custom, function: 'mine:shout', depends_on: [topic] }\n"
        + "  - { name: low, type: custom, function: 'package.inner:low', depends_on: [topic] }\n",
    )
    loaded = load_workflow(path)
    assert loaded.functions["loud"]({"topic": "a"}) == "A"
    assert loaded.functions["low"]({"topic": "B"}) == "b"


def test_callables_of_a_python_workflow_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "w.py",
        "def count(row): return 1\n"
        "workflow = dict(name='c', records=1,\n"
        "    columns=[dict(name='n', type='custom', function=count)])\n",
    )
    loaded = load_workflow(path)
    assert loaded.functions["n"]({}) == 1
    column = loaded.workflow.column("n")
    assert isinstance(column, CustomColumn)
    assert callable(column.function)


def test_two_columns_of_one_module_share_it(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "def a(row): return 1\ndef b(row): return 2\n")
    path = write(
        tmp_path,
        "w.yaml",
        GOOD
        + "  - { name: a, type: custom, function: 'mine:a' }\n"
        + "  - { name: b, type: custom, function: 'mine:b' }\n",
    )
    functions = load_workflow(path).functions
    assert functions["a"].__globals__ is functions["b"].__globals__


def test_overrides(tmp_path: Path) -> None:
    loaded = load_workflow(write(tmp_path, "w.yaml", GOOD))
    changed = loaded.override(records=9, seed=5)
    assert (changed.workflow.records, changed.workflow.seed) == (9, 5)
    with pytest.raises(UserError, match="are too many"):
        loaded.override(records=10**16)
    assert changed.workflow.graph.order == loaded.workflow.graph.order
    assert loaded.override() == loaded
    assert isinstance(changed, LoadedWorkflow)


def test_no_such_file(tmp_path: Path) -> None:
    assert "no workflow file" in refusal(tmp_path / "none.yaml")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    assert ".yaml, .yml or .py" in refusal(write(tmp_path, "w.json", "{}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: small\nrecords: [3\n", ("line 3", "broken YAML")),
        ("name: a: b\n", ("line 1", "broken YAML")),
        ("name: \x07\n", ("broken YAML",)),
        ("[" * 5000, ("broken YAML",)),
        ("", ("is empty",)),
        ("- a\n- b\n", ("mapping", "of type list")),
    ],
)
def test_broken_yaml(text: str, says: tuple[str, ...], tmp_path: Path) -> None:
    sentence = refusal(write(tmp_path, "w.yaml", text))
    assert "w.yaml" in sentence
    for part in says:
        assert part in sentence


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "UTF-8" in refusal(path)


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("records: 3", "records: 10000000000000000"), ("records", "1000000000000000")),
        (
            GOOD.replace("records: 3", "records: 200000000") + "run: { buffer_size: 100000000 }\n",
            ("row groups of 200,000,000 cells", "set it to 1,000,000 or less"),
        ),
        (GOOD + "recrods: 4\n", ('unknown key "recrods"; did you mean "records"?',)),
        (
            changed("prompt:", "promt:"),
            ('column "text": unknown key "promt"; did you mean "prompt"? (and 1 more)',),
        ),
        (
            changed("values: [a, b]", "values: [a, b], weigths: [1, 2]"),
            ('column "topic": unknown key "weigths"; did you mean "weights"?',),
        ),
        (
            changed("model: m }", "model: m, max_parallel: 3 }"),
            ('model "writer": unknown key "max_parallel"; did you mean "max_parallel_requests"?',),
        ),
        (
            changed("model: m }", "model: m, max_parallel_requests: 0 }"),
            ('model "writer", max_parallel_requests: ', "greater than or equal to 1"),
        ),
        (
            changed("type: scripted", "type: scripted, latency: { mena: 1 }"),
            ('provider "p", latency: unknown key "mena"',),
        ),
        (
            changed("type: scripted", "type: scriptd"),
            ('provider "p": unknown type; expected one of', "openai"),
        ),
        (changed("type: sampler, ", ""), ('column "topic": the key "type" is missing',)),
        (changed("name: topic, ", ""), ('column 1: the key "name" is missing',)),
        (
            changed("type: scripted", "type: openai, api_key_env: sk-abcdef"),
            ('provider "p", api_key_env: this must be the name of an environment variable',),
        ),
        (
            changed("name: topic", "name: two words"),
            ('column "two words", name: ', "no valid name"),
        ),
        (changed("{ p:", '{ "p/q":'), ('provider "p/q": this is no valid name',)),
        (changed("{ writer:", '{ "w/r":'), ('model "w/r": this is no valid name',)),
        (changed("{{ topic }}", "{{ topic"), ('column "text", prompt: broken template, line 1',)),
        (changed("{{ topic }}", "{{ weather }}"), ('column "text"', 'unknown column "weather"')),
        (changed("model: writer", "model: poet"), ('unknown model "poet"', "writer")),
        (changed("provider: p", "provider: q"), ('unknown provider "q"', "known providers: p")),
        (
            changed("{{ topic }}", "{{ echo }}")
            + '  - { name: echo, type: expression, template: "{{ text }}" }\n',
            ("cycle", "text", "echo"),
        ),
        (
            GOOD + "  - { name: x, type: custom, function: nonsense }\n",
            ('column "x", function: ', '"module:function"'),
        ),
    ],
)
def test_each_mistake_gets_its_sentence(text: str, says: tuple[str, ...], tmp_path: Path) -> None:
    sentence = refusal(write(tmp_path, "w.yaml", text))
    assert sentence.startswith(f"{tmp_path / 'w.yaml'}: ")
    assert "sk-abcdef" not in sentence
    for part in says:
        assert part in sentence


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("mine:nothing", 'no "nothing" in that module'),
        ("mine:NUMBER", '"NUMBER" is a int'),
        ("nowhere:f", 'no module "nowhere"'),
        ("nowhere.inner:f", 'no module "nowhere.inner"'),
        ("broken:f", "broken.py, line 2: RuntimeError: not today"),
        ("needy:f", "needy.py, line 1: ModuleNotFoundError"),
    ],
)
def test_wrong_function_references(reference: str, says: str, tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "NUMBER = 3\n")
    write(tmp_path, "broken.py", "def f(row): ...\nraise RuntimeError('not today')\n")
    write(tmp_path, "needy.py", "import surely_not_installed\n")
    column = f"  - {{ name: x, type: custom, function: '{reference}' }}\n"
    assert says in refusal(write(tmp_path, "w.yaml", GOOD + column))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "exports no `workflow`"),
        ("workflow = 3\n", "of type int"),
        ("workflow = None\n", "is empty"),
        ("\nraise ValueError('two\\nlines')\n", "w.py, line 2: ValueError: two lines"),
        ("import sys\nsys.exit(4)\n", "w.py, line 2: SystemExit: 4"),
        ("def f(:\n", "w.py, line 1: SyntaxError"),
        ("assert False\n", "w.py, line 1: AssertionError"),
        (
            "from engine.workflow.schema import Workflow\n\n"
            "Workflow(name='w', records=1, colums=[])\n",
            'w.py, line 3: unknown key "colums"; did you mean "columns"?',
        ),
        ("workflow = dict(name='w', records=1, columns=[dict(name='x', type='s')])\n", "unknown"),
    ],
)
def test_mistakes_in_a_module(text: str, says: str, tmp_path: Path) -> None:
    assert says in refusal(write(tmp_path, "w.py", text))


def run_python(code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neighbours_named_like_our_packages_hide_nothing(tmp_path: Path) -> None:
    for name in ("replay.py", "console.py"):
        write(tmp_path, name, "raise SystemExit('the wrong module')\n")
    write(tmp_path, "engine.py", "def f(row): return 'mine'\n")
    path = write(tmp_path, "w.yaml", GOOD + "  - { name: x, type: custom, function: 'engine:f' }\n")
    code = (
        "from pathlib import Path\n"
        "from engine.workflow.load import load_workflow\n"
        f"loaded = load_workflow(Path({str(path)!r}))\n"
        "import engine.identity, replay.state, console\n"
        "print(loaded.functions['x']({}))\n"
    )
    assert run_python(code, tmp_path) == "mine\n"


def test_a_workflow_file_named_engine(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "engine.py",
        "from engine.workflow.schema import Workflow, SamplerColumn\n"
        "from neighbour import NAME\n"
        "workflow = Workflow(name=NAME, records=1, columns=[SamplerColumn(name='x', uuid=True)])\n",
    )
    write(tmp_path, "neighbour.py", "NAME = 'from beside'\n")
    code = (
        "from pathlib import Path\n"
        "from engine.workflow.load import load_workflow\n"
        f"print(load_workflow(Path({str(path)!r})).workflow.name)\n"
        "import engine.errors\n"
    )
    assert run_python(code, tmp_path) == "from beside\n"


def test_loading_imports_no_heavy_package(tmp_path: Path) -> None:
    code = (
        "import sys, engine.workflow.load, engine.workflow.generators, engine.models.build\n"
        "heavy = {'openai', 'pyarrow', 'duckdb', 'textual'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert run_python(code, tmp_path) == "[]\n"
