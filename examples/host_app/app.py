"""Postcards: a Flask app of somebody else's, with its own database, logins and CSRF protection. What metering adds to
it is marked by three comments; everything else was there before.

    HOST_DATABASE_URL=postgresql+psycopg://… METERING_DATABASE_URL=… METERING_REDIS_URL=… \
        flask --app examples.host_app.app run
"""

import os
from typing import Any

from flask import Flask, Response, jsonify, request, stream_with_context
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from sqlalchemy import MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from metering import Metering, metered, usage  # 1. metering is imported …


class Base(DeclarativeBase):
    metadata = MetaData(schema="postcards")


db = SQLAlchemy(model_class=Base)
login = LoginManager()
csrf = CSRFProtect()


class User(UserMixin, db.Model):  # type: ignore[name-defined,misc]
    """The host has a table `users` too, and its own notion of who pays: the account."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    account_key: Mapped[str]


class Postcard(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "postcards"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_key: Mapped[str]
    body: Mapped[str]


def account_of_the_user() -> str | None:
    return current_user.account_key if current_user.is_authenticated else None


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="the host's own secret",  # noqa: S106 - an example
        SQLALCHEMY_DATABASE_URI=os.environ["HOST_DATABASE_URL"],
        **config,
    )
    db.init_app(app)
    login.init_app(app)
    csrf.init_app(app)
    login.user_loader(lambda user_id: db.session.get(User, int(user_id)))
    Metering(app, customer=account_of_the_user)  # 2. … told who pays for a request …
    add_views(app)
    return app


def add_views(app: Flask) -> None:
    @app.get("/form")
    def form() -> str:
        return generate_csrf()

    @app.post("/login")
    def log_in() -> str:
        login_user(db.session.scalars(db.select(User).filter_by(email=request.form["email"])).one())
        return "welcome"

    @app.post("/postcards")
    @login_required
    @metered("api_call", reserve={"messages": 1})  # 3. … and put on the views that cost something.
    def send() -> tuple[Response, int]:
        card = Postcard(account_key=current_user.account_key, body=request.form["body"])
        db.session.add(card)
        db.session.commit()
        usage.set("messages", 1)
        return jsonify(id=card.id), 201

    @app.get("/postcards")
    @login_required
    @metered("api_call", reserve={"tokens": 1_000})
    def read_aloud() -> Response:
        cards = db.session.scalars(db.select(Postcard.body).filter_by(account_key=current_user.account_key)).all()

        @stream_with_context
        def words() -> Any:
            for word in " ".join(cards).split():
                usage.add("tokens", 1)
                yield f"{word} "

        return Response(words(), content_type="text/plain")


def create_tables(app: Flask) -> None:
    """The host's own schema, beside that of metering or in a database of its own."""
    with app.app_context():
        with db.engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS postcards"))
        db.create_all()
