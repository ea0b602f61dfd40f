"""Order lines of a shop, with the columns of the Online Retail data (Chen, Sain and Guo, 2012).

A line becomes a purchase or return in the activity log and a movement of stock; its country becomes the tenant, its
customer the user, its stock code the product. Loading is idempotent: the same line is loaded once, however often and
in whatever file it comes.

Stages: :mod:`extract` (files → raw lines), :mod:`validate` (raw lines → order lines or rejects), :mod:`ledger`
(order lines → movements), :mod:`load` (one transaction), :mod:`run` (a folder, and what came of it).
"""

from dataarch.pipelines.feeds.retail.extract import COLUMNS, source_files, source_name
from dataarch.pipelines.feeds.retail.run import FileFailed, FileLoaded, Totals, load_files
from dataarch.pipelines.feeds.retail.validate import OrderLine, Reject

__all__ = [
    "COLUMNS",
    "FileFailed",
    "FileLoaded",
    "OrderLine",
    "Reject",
    "Totals",
    "load_files",
    "source_files",
    "source_name",
]
