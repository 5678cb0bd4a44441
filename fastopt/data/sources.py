"""Where data comes from: files, parts of files, URLs; plain or compressed; as blocks of lines."""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from fastopt.data.builder import Builder
from fastopt.data.csr import DataError

__all__ = ["Source", "expand", "is_pipe", "is_url", "open_binary", "stamp"]

PIECE = 1 << 18  # bytes of a file read at a time
BLOCK = 1 << 23  # bytes of text parsed at a time where it is streamed
LONGEST = 1 << 26  # bytes of a record of a table: a quote that is not closed ends somewhere
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ZSTD_PIECE = 512  # compressed bytes: a byte may become 32 kB


def is_url(path: str) -> bool:
    """Whether fsspec opens this, and not the operating system."""
    return "://" in path


def is_pipe(path: str) -> bool:
    """Whether this can be read only once."""
    return not is_url(path) and not stat.S_ISREG(os.stat(path).st_mode)


def filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f"{url} needs fsspec: pip install 'fastopt[data]'") from error
    return url_to_fs(url)


def expand(source: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str]:
    """Return the paths and URLs that a path, a glob pattern, a URL or a list of them stands for.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    IsADirectoryError
        For a folder.
    """
    if not isinstance(source, (str, os.PathLike, bytes)):
        paths = [path for part in source for path in expand(part)]
        if not paths:
            raise ValueError("source: the list of files is empty")
        return paths
    path = os.fsdecode(source)
    pattern = glob.has_magic(path)
    if is_url(path):
        if not pattern:
            return [path]
        fs, inner = filesystem(path)
        found = [fs.unstrip_protocol(name) for name in sorted(fs.glob(inner))]
    elif not pattern or os.path.exists(path):
        if os.path.isdir(path):
            advice = f"is a directory; name its files, as in {os.path.join(path, '*.svm')}"
            raise IsADirectoryError(errno.EISDIR, advice, path)
        os.stat(path)
        return [path]
    else:
        found = [name for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise FileNotFoundError(f"no file matches {path}")
    return found


def stamp(path: str) -> list[Any]:
    """Return what tells whether a file is the same as before: name, size, times of its last change.

    The second time is of its inode, which nobody sets: it tells an edit that has put the first one
    back.

    Raises
    ------
    OSError
        If it is not there.
    """
    if not is_url(path):
        status = os.stat(path)
        times = [status.st_mtime_ns, status.st_ctime_ns]
        return [os.path.realpath(path), status.st_size, *times]
    fs, inner = filesystem(path)
    info = fs.info(inner)
    marks = [str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified") if key in info]
    return [path, info.get("size"), *marks, fs.ukey(inner)]


def open_binary(path: str) -> BinaryIO:
    """Open a path or URL for reading bytes."""
    if not is_url(path):
        return open(path, "rb")
    fs, inner = filesystem(path)
    return fs.open(inner, "rb")


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress the members of a gzip file, a bounded amount at a time."""
    member = None
    for piece in pieces:
        while True:
            if member is None or member.eof:
                piece = piece.lstrip(b"\0") if member else piece  # padding is allowed
                if not piece:
                    break
                member = zlib.decompressobj(31)
            text = member.decompress(piece, PIECE)
            if text:
                yield text
            piece = member.unused_data if member.eof else member.unconsumed_tail
            if not (member.eof or piece or len(text) == PIECE):
                break
    if not member.eof:
        raise EOFError("the file ends too early")


def unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress the frames of a zstd file, a bounded amount at a time."""
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("zstd data needs zstandard: pip install 'fastopt[data]'") from error
    decompressor, frame = zstandard.ZstdDecompressor(), None
    try:
        for piece in pieces:
            for start in range(0, len(piece), ZSTD_PIECE):
                part = piece[start : start + ZSTD_PIECE]
                while part:
                    if frame is None or frame.eof:
                        frame = decompressor.decompressobj()
                    text = frame.decompress(part)
                    if text:
                        yield text
                    part = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if not frame.eof:
        raise EOFError("the file ends too early")


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces of a file to blocks of whole lines; an error comes after the lines before it."""
    held: list[bytes] = []
    size, broken = 0, None
    try:
        for piece in pieces:
            size += len(piece)
            cut = piece.rfind(b"\n") + 1 if size >= BLOCK else 0
            if cut:
                held.append(piece[:cut])
                yield b"".join(held)
                held, size = [], len(piece) - cut
            held.append(piece[cut:])
    except (zlib.error, EOFError) as error:
        broken = error
    rest = b"".join(held)
    if broken:
        rest = rest[: rest.rfind(b"\n") + 1]
    elif rest and not rest.endswith(b"\n"):
        rest += b"\n"
    if rest:
        yield rest
    if broken:
        raise broken


class Source:
    """A file of text or a part of it: its name, its size if known, and its lines."""

    def __init__(
        self,
        source: str | os.PathLike | BinaryIO,
        on_progress: Callable[[int, int | None], Any] | None = None,
        start: int = 0,
        stop: int | None = None,
    ):
        self.owned = not hasattr(source, "read")
        self.name = os.fsdecode(source) if self.owned else str(getattr(source, "name", "<stream>"))
        self.on_progress = on_progress
        self.start, self.stop = start, stop
        self.done, self.size = 0, None
        self.local = self.owned and not is_url(self.name)
        self.file = source
        if self.local:
            self.file = open(source, "rb")
            status = os.fstat(self.file.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        elif self.owned:
            self.file = open_binary(self.name)
            self.size = getattr(self.file, "size", None)
        self.whole = start == 0 and stop is None
        #: How the content is packed: "", "gzip" or "zstd"; known once it is read.
        self.packed = ""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_) -> None:
        if self.owned:
            self.file.close()

    def progress(self, done: int) -> None:
        """Report how many bytes of the file have been read."""
        if self.on_progress:
            self.on_progress(done, self.size)

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes, as they are stored."""
        left = None
        if not self.whole:
            self.file.seek(self.start)
            left = None if self.stop is None else self.stop - self.start
        while left is None or left > 0:
            piece = self.file.read(PIECE if left is None else min(PIECE, left))
            if not isinstance(piece, bytes):
                raise TypeError(f"{self.name} must be opened in binary mode")
            if not piece:
                return
            left = None if left is None else left - len(piece)
            self.done += len(piece)
            self.progress(self.done)
            yield piece

    def unpacked(self) -> Iterator[bytes]:
        """Yield the file's content, whatever it is compressed by; parts of files are not."""
        pieces, first = self.pieces(), b""
        while len(first) < len(ZSTD) and (piece := next(pieces, b"")):
            first += piece
        pieces = itertools.chain([first] if first else [], pieces)
        if self.whole and first.startswith(GZIP):
            self.packed = "gzip"
            return gunzip(pieces)
        if self.whole and first.startswith(ZSTD):
            self.packed = "zstd"
            return unzstd(pieces)
        return pieces

    def stream(self, builder: Builder) -> Iterator[None]:
        """Add the text to the builder, a block at a time."""
        builder.spare = 1 / 8  # the end is not known
        held = b""
        with self.located():
            if self.plain():
                yield from self.stream_plain(builder)
                return
            try:
                for text in lines(self.unpacked()):
                    text = held + text if held else text
                    used = builder.add(text, _ignore, last=False)
                    held = text[used:]
                    if len(held) > LONGEST:
                        builder.add(held, _ignore)
                        held = b""
                    yield
            except (zlib.error, EOFError) as error:
                problem = f"found damaged {self.packed} data ({error}), expected a whole line"
                raise DataError(self.name, builder.lines + 1, 1, problem) from error
            if held:
                builder.add(held, _ignore)
                yield

    def plain(self) -> bool:
        """Whether this is text in a file of this machine that is not compressed."""
        if not self.local or not self.size:
            return False
        return not self.whole or not self.file.peek(4)[:4].startswith((GZIP, ZSTD))

    def stream_plain(self, builder: Builder) -> Iterator[None]:
        """Do the same with text that needs no copy but the one from the file."""
        buffer, held = bytearray(BLOCK), 0
        self.file.seek(self.start)
        left = (self.size if self.stop is None else self.stop) - self.start
        while left or held:
            with memoryview(buffer) as view, view[held : held + left] as room:
                size = self.file.readinto(room)
            if size == 0 and left:
                problem = "found the end of the file, which has been cut short while it was read"
                raise DataError(self.name, builder.lines + 1, 1, problem)
            left -= size
            self.done += size
            self.progress(self.done)
            held += size
            if not left and held and buffer[held - 1] != 10:
                buffer[held:] = b"\n"
                held += 1
            used = cut = buffer.rfind(b"\n", 0, held) + 1
            if cut:
                with memoryview(buffer) as view, view[:cut] as text:
                    used = builder.add(text, _ignore, last=not left)
                    if not used and held > LONGEST:  # one record, of a quote that is not closed
                        used = builder.add(text, _ignore)
                held -= used
                buffer[:held] = buffer[used : used + held]
            if held == len(buffer):
                buffer += bytes(len(buffer))
            elif held < BLOCK < len(buffer):  # a long line is over
                del buffer[BLOCK:]
            if cut:
                yield

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Count the lines before this part of the file where an error in it is to name one."""
        try:
            yield
        except DataError as error:
            if self.start == 0 or not error.line:
                raise
            before = 0
            with open_binary(self.name) as file:
                for at in range(0, self.start, BLOCK):
                    before += file.read(min(BLOCK, self.start - at)).count(b"\n")
            raise DataError(error.file, error.line + before, error.byte, error.problem) from None

    def read(self, builder: Builder) -> None:
        """Add the whole text to the builder."""
        if not self.whole or not self.plain():
            for _ in self.stream(builder):
                pass
            return
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            cut, used = mapped.rfind(b"\n") + 1, 0
            ends = cut == len(mapped)
            if cut:
                with memoryview(mapped) as whole, whole[:cut] as text:
                    used = builder.add(text, self.progress, last=ends)
            if not ends:
                builder.add(mapped[used:] + b"\n", _ignore)
                self.progress(self.size)

    def blocks(self, builder: Builder, block_rows: int | None) -> Iterator[tuple]:
        """Yield the rows as `Builder.block` returns them, so many at a time; None: as they come."""
        for _ in self.stream(builder):
            rows = block_rows or max(1, builder.rows)
            start = 0
            while builder.rows - start >= rows:
                yield builder.block(start, start + rows)
                start += rows
            builder.drop(start)
        if builder.rows:
            yield builder.block(0, builder.rows)


def _ignore(done: int) -> None:
    pass
