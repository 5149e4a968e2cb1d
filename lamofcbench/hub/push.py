"""Publishing stores: data first, manifests last, then a tag that never moves."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import HubError
from lamofcbench.hub.client import api, retrying
from lamofcbench.hub.download import read_small
from lamofcbench.hub.plan import PushPlan, RemoteFile, changed
from lamofcbench.hub.remote import MANIFEST_LIMIT
from lamofcbench.manifest import MANIFEST, MANIFEST_SHA256, FileEntry, Manifest
from lamofcbench.spec import REPO

__all__ = ["compare", "push"]

# One commit takes as many files as fit in one request, and few enough bytes to be tried again.
FILES_PER_COMMIT = 200
BYTES_PER_COMMIT = 5_000_000_000
PATHS_PER_QUERY = 500


def _missing(error: BaseException) -> bool:
    return type(error).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError")


def _remote(repo: str, paths: Iterable[str], revision: str = "main") -> dict[str, RemoteFile]:
    """What a repository has of some paths; nothing is listed."""
    from huggingface_hub.errors import RepositoryNotFoundError

    names, found = list(paths), {}
    client = api()
    for start in range(0, len(names), PATHS_PER_QUERY):
        some = names[start : start + PATHS_PER_QUERY]

        def ask(some: list[str] = some) -> Any:
            try:
                return client.get_paths_info(repo, some, revision=revision, repo_type="dataset")
            except RepositoryNotFoundError:
                return None

        answer = retrying(repo, ask)
        if answer is None:
            return {}
        for info in answer:
            if hasattr(info, "size"):
                sha256 = info.lfs.sha256 if info.lfs else None
                found[info.path] = RemoteFile(info.size, info.blob_id, sha256)
    return found


def compare(plan: PushPlan, repo: str) -> list[str]:
    """Paths that the repository lacks or has otherwise.

    Raises:
        HubError: the Hub cannot be reached, or refuses.
    """
    if not REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no repository. Name one as org/name")
    return changed(plan.files, plan.archive, _remote(repo, plan.files))


def push(
    plan: PushPlan,
    repo: str,
    *,
    private: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> str:
    """Publish what was planned; what the repository has already is not sent again.

    A manifest that is to be replaced is taken out with the first change to its store, so at no
    moment does a revision hold a manifest and other data than it names.

    Args:
        plan: from `plan_push`; its stores must have been verified.
        repo: ``org/name``, made if it is not there.
        private: whether a new repository is private.
        progress: called with the bytes of each commit.

    Returns:
        The commit that the tag names.

    Raises:
        HubError: the Hub cannot be reached, or refuses; running it again goes on.
    """
    if not REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no repository. Name one as org/name")
    client = api()
    head = _head(client, repo)
    if head is None:
        retrying(
            repo,
            lambda: client.create_repo(repo, repo_type="dataset", private=private, exist_ok=True),
        )
    else:
        tagged = _tagged(client, repo, plan)
        if tagged is not None and not compare(plan, repo):
            return tagged
    outdated = _outdated(repo, plan)
    withdrawn = [path for names in outdated.values() for path in names[0]]
    obsolete = [path for names in outdated.values() for path in names[1]]
    _stage(client, repo, plan, plan.shards, "Publish shards", withdrawn, progress)
    _stage(client, repo, plan, plan.tables, "Publish tables", withdrawn, progress)
    _stage(client, repo, plan, plan.manifests, "Publish manifests", obsolete, progress, last=True)
    commit = _head(client, repo)
    if commit is None or (
        wrong := changed(plan.files, plan.archive, _remote(repo, plan.files, commit))
    ):
        raise HubError(
            f"{repo}: {wrong[0] if commit else 'it'} changed while it was being published, so the "
            "revision was not tagged. Run the same command again"
        )
    retrying(
        repo,
        lambda: client.create_tag(
            repo, tag=plan.tag, revision=commit, repo_type="dataset", exist_ok=True
        ),
    )
    tagged = _tagged(client, repo, plan)
    if tagged is None:
        raise HubError(f"{repo}: the tag {plan.tag} was not set. Run the same command again")
    return tagged


def _head(client: Any, repo: str) -> str | None:
    def ask() -> str | None:
        try:
            info = client.dataset_info(repo, expand=["sha"])
        except Exception as error:
            if type(error).__name__ == "RepositoryNotFoundError":
                return None
            raise
        return str(info.sha)

    return retrying(repo, ask)


def _tagged(client: Any, repo: str, plan: PushPlan) -> str | None:
    """The commit of the plan's tag, if there is one and it holds these manifests."""
    refs = retrying(repo, lambda: client.list_repo_refs(repo, repo_type="dataset"))
    target = next((t.target_commit for t in refs.tags if t.name == plan.tag), None)
    if target is None:
        return None
    wanted = {path: entry for path, entry in plan.manifests.items() if "/" in path}
    if changed(wanted, plan.archive, _remote(repo, wanted, target)):
        raise HubError(
            f"{repo}: the tag {plan.tag} names other contents, and tags never move. "
            "Choose another --tag"
        )
    return str(target)


def _outdated(repo: str, plan: PushPlan) -> dict[str, tuple[list[str], list[str]]]:
    """Per store that is to be replaced: its manifest files, and what it has no more."""
    found = {}
    for store in plan.stores:
        read = read_small(repo, "main", f"{store.name}/{MANIFEST}", MANIFEST_LIMIT)
        if read is None or sha256_bytes(read[0]) == store.sha256:
            continue
        try:
            listed = set(Manifest.model_validate_json(read[0]).files)
        except ValueError:
            listed = set()
        gone = sorted(f"{store.name}/{path}" for path in listed - store.manifest.files.keys())
        names = [f"{store.name}/{name}" for name in (MANIFEST, MANIFEST_SHA256)]
        found[store.name] = (names, gone)
    return found


def _stage(
    client: Any,
    repo: str,
    plan: PushPlan,
    files: Mapping[str, FileEntry],
    title: str,
    deletions: list[str],
    progress: Callable[[int], object],
    last: bool = False,
) -> None:
    """Send what is missing of some files, a commit at a time; tried again from what is there."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def send() -> None:
        there = _remote(repo, [*files, *deletions])
        missing = changed(files, plan.archive, there)
        gone = [path for path in deletions if path in there] if missing or last else []
        for number, paths in enumerate(_batches(missing, files, gone)):
            operations: list[Any] = [
                CommitOperationAdd(path, str(plan.archive / path)) for path in paths
            ]
            if number == 0:
                operations += [CommitOperationDelete(p) for p in gone if p not in paths]
            client.create_commit(repo, operations, commit_message=title, repo_type="dataset")
            progress(sum(files[path].bytes for path in paths))

    retrying(repo, send)


def _batches(
    missing: list[str], files: Mapping[str, FileEntry], gone: list[str]
) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for path in missing:
        if batch and (
            len(batch) == FILES_PER_COMMIT or size + files[path].bytes > BYTES_PER_COMMIT
        ):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += files[path].bytes
    if batch or gone:
        yield batch
