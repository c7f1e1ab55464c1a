"""What is interesting: the filter contract, histories, and the filters that come with zads."""

from filters.contract import Filter, Verdict, alert_filter
from filters.expressions.filter import expression
from filters.history import History, history
from filters.load import filter_or_expression, load, registered
from filters.parameters import Parameter

__all__ = [
    "Filter",
    "History",
    "Parameter",
    "Verdict",
    "alert_filter",
    "expression",
    "filter_or_expression",
    "history",
    "load",
    "registered",
]
