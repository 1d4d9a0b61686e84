"""FIFOs in the role of files on a mount that hangs. Opening a FIFO for reading blocks until there is a writer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


async def write(path: Path, text: str) -> None:
    """Writes to a FIFO after a reader has opened it. A blocking open could stop the event loop."""
    async with asyncio.timeout(10):
        while True:
            try:
                handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # ENXIO: nobody reads yet
                await asyncio.sleep(0.001)
                continue
            with os.fdopen(handle, "w") as file:
                file.write(text)
            return
