"""skstack: shell commands behind a form, with approvals, a live log and an honest record."""

from __future__ import annotations

from flask import Flask

from skstack import config
from skstack.config import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application. Opens no connection and starts no thread; the database may not exist yet.

    Raises ConfigError for a setting that cannot be used.
    """
    settings = settings or config.load()
    app = Flask(
        "skstack",
        root_path=str(config.ROOT),
        instance_path=str(settings.instance),
        template_folder="templates",
        static_folder="static",
    )
    _configure(app, settings)
    _bind_extensions(app, settings)
    _register_features(app, settings)
    return app


def _configure(app: Flask, settings: Settings) -> None:
    from skstack import crypto
    from skstack.db import engine_options

    settings.instance.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.runs_directory.mkdir(exist_ok=True, mode=0o700)
    crypto.create_keys(settings.instance)
    app.config.update(
        SKSTACK=settings,
        SECRET_KEY=crypto.load_session_key(settings.instance),
        SQLALCHEMY_DATABASE_URI=settings.url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(
            settings.url, settings.database_timeout, settings.web_threads
        ),
        MAX_CONTENT_LENGTH=settings.max_request,
        MAX_FORM_MEMORY_SIZE=settings.max_request,
        SESSION_COOKIE_NAME="skstack",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        WTF_CSRF_TIME_LIMIT=None,  # As long as the session: a form left open over lunch must still be sent.
        BABEL_TRANSLATION_DIRECTORIES="skstack/translations",
        COMPRESS_MIMETYPES=["text/html", "text/css", "text/javascript", "application/json", "image/svg+xml"],
        COMPRESS_ALGORITHM=["br", "gzip"],
        COMPRESS_BR_LEVEL=5,
        COMPRESS_STREAMS=False,
        API_TITLE="skstack",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
    )
    app.extensions["skstack.cipher"] = crypto.load_encryption(settings.instance)
    app.extensions["skstack.audit"] = crypto.load_audit_keys(settings.instance)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it


def _bind_extensions(app: Flask, settings: Settings) -> None:
    from flask_compress import Compress

    from skstack import db as database
    from skstack.extensions import babel, csrf, db, login_manager, queue
    from skstack.web import text

    db.init_app(app)
    database.listen(app)
    login_manager.init_app(app)
    csrf.init_app(app)
    babel.init_app(app, locale_selector=text.select_locale, timezone_selector=text.select_timezone)
    Compress(app)
    queue.bind(settings.url, settings.instance)


def _register_features(app: Flask, settings: Settings) -> None:
    from skstack import api, cli
    from skstack.accounts import oidc, sessions
    from skstack.accounts import views as accounts
    from skstack.approvals import views as approvals
    from skstack.audit import event_views as audit_events
    from skstack.audit import views as audit
    from skstack.catalog import views as catalog
    from skstack.dashboard import views as dashboard
    from skstack.notifications import views as notifications
    from skstack.runs import middleware as watching
    from skstack.runs import views as runs
    from skstack.schedules import views as schedules
    from skstack.system import views as system
    from skstack.tickets import views as tickets
    from skstack.web import compiled, setup
    from skstack.web.permissions import Permission, permit

    compiled.init_app(app, settings.instance / "templates")
    setup.init_app(app, settings)
    sessions.init_app(app)
    oidc.init_app(app)
    features = (
        accounts,
        approvals,
        audit,
        audit_events,
        catalog,
        dashboard,
        notifications,
        runs,
        schedules,
        system,
        tickets,
    )
    for feature in features:
        app.register_blueprint(feature.blueprint)
    api.init_app(app)
    cli.init_app(app)
    permit(Permission.ANYONE)(app.view_functions["static"])
    watching.init_app(app)
