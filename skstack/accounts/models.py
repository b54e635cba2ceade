"""People: users, the groups they are in, the roles they have, and how they are signed in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from enum import StrEnum

import sqlalchemy as sa
from flask_login import UserMixin
from sqlalchemy.orm import Mapped, mapped_column, relationship

from skstack.config import Settings
from skstack.db import Encrypted, JsonColumn, UtcDateTime, utcnow
from skstack.extensions import Model, db
from skstack.messages import N_, Message


class Page(StrEnum):
    """What a role can grant: the pages of the menu."""

    SUBMIT = "submit"
    APPROVE = "approve"
    EXECUTE = "execute"
    AUDIT = "audit"
    CONFIGURATION = "configuration"
    USERS = "users"
    DASHBOARD = "dashboard"
    SYSTEM = "system"

    @property
    def label(self) -> Message:
        return _PAGE_LABELS[self]


_PAGE_LABELS = {
    Page.SUBMIT: N_("Submit"),
    Page.APPROVE: N_("Approvals"),
    Page.EXECUTE: N_("Execute"),
    Page.AUDIT: N_("Audit"),
    Page.CONFIGURATION: N_("Configuration"),
    Page.USERS: N_("People"),
    Page.DASHBOARD: N_("Dashboard"),
    Page.SYSTEM: N_("System"),
}

user_groups = sa.Table(
    "user_groups",
    db.metadata,
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", sa.ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True, index=True),
)

user_roles = sa.Table(
    "user_roles",
    db.metadata,
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role_id", sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class Group(Model):
    """People who may submit or approve the same things."""

    __tablename__ = "groups"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")

    members: Mapped[list[User]] = relationship(
        secondary=user_groups, back_populates="groups", order_by="User.username"
    )


class Role(Model):
    """A set of pages that its holders see."""

    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    description: Mapped[str] = mapped_column(sa.Text, default="")
    pages: Mapped[list[str]] = mapped_column(JsonColumn, default=list)

    holders: Mapped[list[User]] = relationship(
        secondary=user_roles, back_populates="roles", order_by="User.username"
    )


class User(UserMixin, Model):
    """One person. Deactivated people stay, since history names them."""

    __tablename__ = "users"
    __table_args__ = (sa.Index("uq_users_username_lower", sa.text("lower(username)"), unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(64))
    display_name: Mapped[str] = mapped_column(sa.String(128), default="")
    email: Mapped[str] = mapped_column(sa.String(254), default="")
    password_hash: Mapped[str | None] = mapped_column(sa.String(256))
    superuser: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    language: Mapped[str] = mapped_column(sa.String(16), default="")
    timezone: Mapped[str] = mapped_column(sa.String(64), default="")
    # By the name of a list: which of its columns to show, or not to; what is not named stays as the list has it.
    columns: Mapped[dict[str, dict[str, bool]] | None] = mapped_column(JsonColumn)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    signed_in_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    groups: Mapped[list[Group]] = relationship(
        secondary=user_groups, back_populates="members", order_by=Group.name
    )
    roles: Mapped[list[Role]] = relationship(
        secondary=user_roles, back_populates="holders", order_by=Role.name
    )

    @property
    def is_active(self) -> bool:
        return self.active

    @property
    def name(self) -> str:
        """Return the name that others read."""
        return self.display_name or self.username

    def may(self, page: str) -> bool:
        """Say whether a role, or being superuser, gives this page."""
        return self.superuser or any(page in role.pages for role in self.roles)

    def is_in(self, groups: Collection[Group]) -> bool:
        mine = {group.id for group in self.groups}
        return any(group.id in mine for group in groups)


class UserSession(Model):
    """One sign-in on one device. The cookie holds a random token, this row its hash; ending the row ends it."""

    __tablename__ = "user_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    seen_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    user_agent: Mapped[str] = mapped_column(sa.String(256), default="")

    user: Mapped[User] = relationship()

    def is_over(self, settings: Settings, now: dt.datetime) -> bool:
        """Say whether the session has ended, or has outlived its time unused or in all."""
        return self.ended_at is not None or now >= self.ends_at(settings)

    def ends_at(self, settings: Settings) -> dt.datetime:
        """Return when the session ends by itself if it is not used any more."""
        return min(
            self.seen_at + dt.timedelta(seconds=settings.session_lifetime),
            self.created_at + dt.timedelta(seconds=settings.session_lifetime_absolute),
        )


class ApiToken(Model):
    """A bearer token of one user. Only its hash is kept; `hint` is its beginning, to tell tokens apart."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    hint: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)

    user: Mapped[User] = relationship()

    def is_valid(self, now: dt.datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class SignInAttempt(Model):
    """A failed sign-in, kept to limit the next ones across all web processes."""

    __tablename__ = "sign_in_attempts"
    __table_args__ = (
        sa.Index("ix_sign_in_attempts_account_at", "account", "at"),
        sa.Index("ix_sign_in_attempts_address_at", "address", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    account: Mapped[str] = mapped_column(sa.String(64))
    address: Mapped[str] = mapped_column(sa.String(64))


class SecondFactor(Model):
    """The secret that a person's authenticator app shares with skstack. Until it is confirmed it asks nothing."""

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str] = mapped_column(Encrypted)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    confirmed_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    # The time step of the last code that was taken: it and those before are used up.
    last_step: Mapped[int] = mapped_column(default=0)


class RecoveryCode(Model):
    """A code for once, for the day on which the phone is gone. Only its hash is kept."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(sa.String(64))
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class ExternalIdentity(Model):
    """An entry of the directory, or a subject of an OIDC provider, that signs in as a user."""

    __tablename__ = "external_identities"
    __table_args__ = (sa.UniqueConstraint("issuer", "subject"), sa.UniqueConstraint("user_id", "issuer"))

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str] = mapped_column(sa.String(255))  # "ldap", or the provider's address.
    subject: Mapped[str] = mapped_column(sa.String(255))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)
    used_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    user: Mapped[User] = relationship()


class PendingSignIn(Model):
    """A sign-in whose password was right and whose second factor is still asked for. It opens nothing."""

    __tablename__ = "pending_sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    way: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow)

    user: Mapped[User] = relationship()
