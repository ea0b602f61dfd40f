"""How records are read: each kind of source in a file of its own."""

from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.extractors.parquet import ParquetFiles
from dataarch.pipelines.extractors.query import Query

__all__ = ["CsvFiles", "JsonLines", "ParquetFiles", "Query"]
