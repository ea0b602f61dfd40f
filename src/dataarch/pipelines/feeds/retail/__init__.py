"""Order lines of a shop, with the columns of the Online Retail data (Chen, Sain and Guo, 2012).

A line becomes a purchase or return in the activity log and a movement of stock; its country becomes the tenant, its
customer the user, its stock code the product. Loading is idempotent: the same line is loaded once, however often and
in whatever file it comes.

:mod:`validate` is the step (records → order lines or rejects), :mod:`load` the loader, whose SQL is in
:mod:`statements`; :mod:`pipeline` puts them together.
"""

from dataarch.pipelines.feeds.retail.load import RetailLines
from dataarch.pipelines.feeds.retail.pipeline import LINES, RETAIL, desk_of, retail
from dataarch.pipelines.feeds.retail.validate import COLUMNS, DESK, OrderLine, OrderLines

__all__ = ["COLUMNS", "DESK", "LINES", "RETAIL", "OrderLine", "OrderLines", "RetailLines", "desk_of", "retail"]
