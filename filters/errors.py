"""What can be wrong with a filter, drawn as a tree:

ZadsError
└── FilterError          a filter, or the way it is used, is wrong
    ├── BadFile          a user's file raises when it is loaded
    ├── BadCut           what it returned is not one true or false an alert
    ├── BadParameter     no such parameter, or a value of the wrong kind
    ├── BadValue         a value beside the cuts is not what the filter declared
    ├── BadSelection     a mask of one selection of epochs used on another
    ├── UnknownFilter    no filter of that name
    └── ReadsRequired    a filter that does not say what it reads cannot be enabled

Reading a column that `reads` does not declare raises `schemas.errors.NoSuchColumn`.
"""

from schemas.errors import ZadsError


class FilterError(ZadsError):
    """A filter, or the way it is used, is wrong."""


class BadFile(FilterError):
    """A user's file raises when it is loaded; the message says where."""


class BadCut(FilterError):
    """A filter returned something that is not one true or false for each alert."""


class BadParameter(FilterError):
    """No such parameter, or a value of the wrong kind."""


class BadValue(FilterError):
    """A value beside the cuts is not what the filter declared, or not one an alert."""


class BadSelection(FilterError):
    """A mask or column of one selection of epochs was used on another."""


class UnknownFilter(FilterError):
    """No filter of that name, file or module."""


class ReadsRequired(FilterError):
    """The filter does not say which columns it reads, so nothing can decode them for it."""
