"""Archives: the rows of a retired partition in one Parquet file, compared with the table before anything is dropped.

Nothing here drops a table or commits; whoever does so calls :func:`write_archive` first, in the same transaction.
"""

from dataarch.partitions.archive.load import load_archive
from dataarch.partitions.archive.read import read_archive
from dataarch.partitions.archive.types import Archive, ArchivedColumn, ArchiveOf
from dataarch.partitions.archive.verify import verify_archive
from dataarch.partitions.archive.write import write_archive

__all__ = [
    "Archive",
    "ArchiveOf",
    "ArchivedColumn",
    "load_archive",
    "read_archive",
    "verify_archive",
    "write_archive",
]
