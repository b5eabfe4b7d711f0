import time


async def detect(ticket: str) -> str:
    time.sleep(0.5)  # a library that was made for threads
    return "en"
