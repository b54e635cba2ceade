"""The objects that `create_app` binds: importing them opens nothing and reads no setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_babel import Babel
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from skstack.queue import Queue


class Base(DeclarativeBase):
    """Gives every constraint a name, so that a migration can change it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
login_manager = LoginManager()
csrf = CSRFProtect()
babel = Babel()
queue = Queue("skstack")

if TYPE_CHECKING:

    class Model(Base):
        """What every model inherits; at run time Flask-SQLAlchemy's own class over `Base`."""

        __abstract__ = True
        __tablename__: str
else:
    Model = db.Model
