"""The objects that `create_app` binds: importing them opens nothing and reads no setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from babel.support import NullTranslations, Translations
from flask_babel import Babel, Domain, get_locale
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


class Sentences(Domain):
    """Finds the translated sentences under the code that a language has here, in profiles and in browsers.

    Babel makes `zh_Hans_CN` of `zh_CN`, and the base class looks for a directory of that name only.
    """

    def get_translations(self) -> NullTranslations:
        locale = get_locale()
        if locale is None:
            return NullTranslations()
        code = "_".join(filter(None, (locale.language, locale.territory)))
        if code not in self.cache:
            (directory,) = self.translation_directories
            self.cache[code] = Translations.load(directory, [code])
        found: NullTranslations = self.cache[code]
        return found


class Languages(Babel):
    """Babel with our way to find sentences."""

    domain_instance = Sentences()


db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
login_manager = LoginManager()
csrf = CSRFProtect()
babel = Languages()
queue = Queue("skstack")

if TYPE_CHECKING:

    class Model(Base):
        """What every model inherits; at run time Flask-SQLAlchemy's own class over `Base`."""

        __abstract__ = True
        __tablename__: str
else:
    Model = db.Model
