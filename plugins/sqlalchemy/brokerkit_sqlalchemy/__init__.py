"""brokerkit on SQL databases: a transport and a result backend over SQLAlchemy. SQLite so far."""

from brokerkit_sqlalchemy.options import SQLAlchemyResultOptions, SQLAlchemyTransportOptions
from brokerkit_sqlalchemy.results import SQLAlchemyResultBackend
from brokerkit_sqlalchemy.transport import SQLAlchemyTransport

__all__ = [
    "SQLAlchemyResultBackend",
    "SQLAlchemyResultOptions",
    "SQLAlchemyTransport",
    "SQLAlchemyTransportOptions",
]
