"""A repository of DagsHub: who may write to it, and folders that are committed to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from ...schemas.errors import DeliveryError, UnreachableError
from .mlflow_address import DagsHubAddress, dagshub_host

LOG_IN = (
    "set DAGSHUB_USER_TOKEN, or run `dagshub login`, which stores a token for the programs that "
    "cannot ask for one."
)


class Login(NamedTuple):
    """Who logs in to DagsHub: by a token, or by name and password."""

    token: str | None = None
    username: str | None = None
    password: str | None = None


def log_in() -> Login:
    """The login that there is, given to MLflow as well; nobody is asked for one.

    Raises:
        DeliveryError: there is none, or DagsHub does not take it.
    """
    from dagshub.common import config

    config.quiet = True  # It would print who logs in, and each upload.
    login = _found_login()
    if "MLFLOW_TRACKING_USERNAME" not in os.environ and "MLFLOW_TRACKING_TOKEN" not in os.environ:
        # DagsHub takes a token for the name too.
        os.environ["MLFLOW_TRACKING_USERNAME"] = login.username or login.token or ""
        os.environ["MLFLOW_TRACKING_PASSWORD"] = login.password or login.token or ""
    return login


def _found_login() -> Login:
    from dagshub.auth.tokens import get_token
    from dagshub.common import config

    if config.username and config.password:
        return Login(username=config.username, password=config.password)
    if config.token:
        return Login(token=config.token)
    if not Path(config.cache_location).exists():
        raise DeliveryError(f"DagsHub has no login here: {LOG_IN}")
    try:
        # A list of tokens that is empty would otherwise lead to a browser.
        return Login(token=get_token(host=config.host, fail_if_no_token=True))
    except Exception as error:
        raise DeliveryError(f"DagsHub takes no login of those here ({error}): {LOG_IN}") from error


class DagsHubRepository:
    """Commits folders to a branch of a repository.

    Args:
        address: which one.
        login: who commits.
        branch: where to; it is made if there is none of that name.
    """

    def __init__(self, address: DagsHubAddress, login: Login, branch: str) -> None:
        from dagshub.upload.wrapper import Repo

        self._address = address
        self._repo: Any = Repo(
            address.owner,
            address.name,
            username=login.username,
            password=login.password,
            token=login.token,
            branch=branch,
        )

    def check(self) -> None:
        """Sees whether the repository is there.

        Raises:
            DeliveryError: it is not, or the login is not taken, or nobody answers.
        """
        from dagshub.common.api.repo import RepoAPI

        owner, name = self._address
        try:
            RepoAPI(f"{owner}/{name}", host=dagshub_host(), auth=self._repo.auth).get_repo_info()
        except Exception as error:
            raise DeliveryError(
                f"DagsHub's repository {owner}/{name} cannot be used ({type(error).__name__}: "
                f"{error}): see MLFLOW_TRACKING_URI, and {LOG_IN}"
            ) from error

    def upload(self, folder: Path, place: str, message: str) -> None:
        """Commits a folder; files that are there already with the same bytes make no commit.

        Args:
            folder: what.
            place: where in the repository.
            message: of the commit.

        Raises:
            UnreachableError: DagsHub does not answer, or has an error on its side.
            Exception: DagsHub's own, where it refuses.
        """
        import httpx
        from dagshub.upload.errors import InternalServerErrorError
        from tenacity import RetryError

        try:
            self._repo.directory(place).add_dir(str(folder), commit_message=message)
        except (httpx.TransportError, InternalServerErrorError, RetryError) as error:
            raise UnreachableError(
                f"DagsHub does not answer ({type(error).__name__}); {folder.name} is not delivered"
            ) from error
