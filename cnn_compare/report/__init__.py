"""Reports: stored runs in, tables and files out. Never trains, and imports neither torch nor Lightning."""

from cnn_compare.report.load import load_results
from cnn_compare.report.write import write_report

__all__ = ["load_results", "write_report"]
