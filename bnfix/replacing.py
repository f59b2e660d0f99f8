"""How does a file come into its place, so that a crash leaves the old one or the new one?

It is written beside the place, flushed to the disk, and moved there in one step of the file system.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnfix.errors import FileError, ResourceError, disk_is_full


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A path in a folder beside `path`, of the same name; what is there in the end is moved there.

    Raises:
        FileError: The folder cannot be written to.
        ResourceError: The disk is full.
    """
    target = path.resolve()  # a link stays a link, what it leads to is replaced
    try:
        # As long as the file's own, the name would be longer than a file system may take.
        prefix = f".{target.name[:_PREFIX]}."
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        draft = folder / target.name
        with _room_for(path, folder):
            yield draft
        try:
            _flush(draft)
            _keep_mode(target, draft)
            os.replace(draft, target)
        except OSError as error:
            if disk_is_full(error, folder):
                raise _full(path) from error
            raise _not_written(path, error) from error
        _flush_folder(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


#: Characters of a file's name that are part of the folder's.
_PREFIX = 50


@contextmanager
def _room_for(path: Path, folder: Path) -> Generator[None]:
    try:
        yield
    except Exception as error:  # of Keras, of HDF5 or of ours: what matters is where it comes from
        if disk_is_full(error, folder):
            raise _full(path) from error
        raise


def _full(path: Path) -> ResourceError:
    return ResourceError(
        f"{path} cannot be written: the disk is full. Free some space, or choose a place on "
        "another disk."
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes nothing that is open for reading only
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


#: What file systems answer that have no way to flush; the file is as safe there as files can be.
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def _flush_folder(folder: Path) -> None:
    """Make the move last through a loss of power, where that can be had.

    The file is in its place already, so nothing may fail any more: Windows opens no folders, and
    network and FUSE file systems answer with errors of many kinds.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keep_mode(target: Path, draft: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.copymode(target, draft)


def _not_written(path: Path, error: OSError) -> FileError:
    return FileError(
        f"{path} cannot be written: {error.strerror or error}. A folder that can be written to, "
        "with room for the file, is required."
    )
