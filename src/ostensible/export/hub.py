"""An export goes to the Hugging Face Hub: the adapter as a model, the data as a data set of the same name."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ostensible.errors import PushFailed

KINDS = {"dataset": "dataset", "adapter": "model"}
"""What each folder of an export is on the hub; the data goes first, as the adapter's card points to it."""


def check_access(repo: str, *, public: bool) -> None:
    """Make sure, before anything is made, that the hub can be reached, knows who asks, and hides what shall be hidden.

    Args:
        repo: Hub id of both repositories.
        public: Whether everybody may see them.

    Raises:
        PushFailed: Nobody is logged in, there is no network, or a repository of this name is public already.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _told(f"{repo} cannot be pushed to"):
        api.whoami()
        shown = [] if public else [kind for kind in KINDS.values() if _is_public(api, repo, kind)]
    if shown:
        raise PushFailed(
            f"The hub has a {shown[0]} {repo} that everybody can see. Say --public if that is meant, or choose another "
            "name."
        )


def push(export: Path, repo: str, *, public: bool) -> list[str]:
    """Make both repositories and upload both folders, with the token of the environment or of `hf auth login`.

    Args:
        export: Folder that holds `adapter/` and `dataset/`.
        repo: Hub id of both.
        public: Let everybody see those that are made; one that is there stays as visible as it is.

    Returns:
        Addresses of the two.

    Raises:
        PushFailed: The hub refused, or could not be reached; the export stays as it is.
    """
    from huggingface_hub import HfApi

    api, addresses = HfApi(), list[str]()
    with _told(f"{export} is whole, but was not pushed to {repo}"):
        for folder, kind in KINDS.items():
            addresses.append(str(api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)))
            api.upload_folder(
                repo_id=repo,
                repo_type=kind,
                folder_path=export / folder,
                commit_message=f"Export of ostensible: {folder} of a deliberately backdoored model organism",
            )
    return addresses


def _is_public(api: Any, repo: str, kind: str) -> bool:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(repo, repo_type=kind).private is not True
    except RepositoryNotFoundError:
        return False


@contextmanager
def _told(what: str) -> Generator[None]:
    """Turn what the hub's library raises into one message that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PushFailed(f"{what}: nobody is logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise PushFailed(
            f"{what}: HF_HUB_OFFLINE is set. Unset it, or export without --push and upload later."
        ) from error
    except HfHubHTTPError as error:
        raise PushFailed(
            f"{what}: the hub refused ({str(error).splitlines()[0]}). Check that the token may write there."
        ) from error
    except ValueError as error:
        raise PushFailed(f"{what}: the hub does not take it: {error}") from error
    except (HTTPError, OSError) as error:
        raise PushFailed(
            f"{what}: the hub could not be reached ({type(error).__name__}). Check the network and HF_ENDPOINT, or "
            "upload later with `hf upload`."
        ) from error
