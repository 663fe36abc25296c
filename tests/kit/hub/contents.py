"""What the hub on loopback holds."""

import hashlib
from dataclasses import dataclass, field

LARGE = (".gguf", ".safetensors", ".bin", ".model", "tokenizer.json")


@dataclass
class HubRepository:
    """A repository: files by path, who may read it, what its card says."""

    id: str
    files: dict[str, bytes] = field(default_factory=dict)
    is_private: bool = False
    is_gated: bool = False
    branch: str = "main"
    tags: dict[str, str] = field(default_factory=dict)
    """Names of commits that are tagged."""
    licence: str = "apache-2.0"
    downloads: int = 100
    gguf: dict[str, object] | None = None
    listed_oids: dict[str, str] = field(default_factory=dict)
    """Hashes that the listing tells instead of the true ones."""
    listed_sizes: dict[str, int] = field(default_factory=dict)
    old_commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """What the files were at earlier commits."""

    @property
    def commit(self) -> str:
        """It follows from the files, as in git."""
        digest = hashlib.sha1(self.id.encode())
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + oid_of(path, content).encode())
        return digest.hexdigest()

    def replace_files(self, files: dict[str, bytes]) -> None:
        """A new commit, beside which the old one can still be read."""
        self.old_commits[self.commit] = self.files
        self.files = files

    def files_at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that the revision names, and its files."""
        commit = self.tags.get(revision, revision)
        if revision == self.branch or commit == self.commit:
            return self.commit, self.files
        return (commit, self.old_commits[commit]) if commit in self.old_commits else None

    def entry(self, path: str, content: bytes) -> dict[str, object]:
        """The file as the listing tells it."""
        size = self.listed_sizes.get(path, len(content))
        oid = self.listed_oids.get(path, oid_of(path, content))
        base = {"type": "file", "path": path, "size": size, "oid": oid}
        if not path.endswith(LARGE):
            return base
        pointer = {"oid": oid, "size": size, "pointerSize": 134}
        return {**base, "oid": git_oid(b"pointer of " + oid.encode()), "lfs": pointer}

    def card(self) -> dict[str, object]:
        """The repository as search and information tell it."""
        return {
            "_id": "0" * 24,
            "id": self.id,
            "sha": self.commit,
            "private": self.is_private,
            "gated": "manual" if self.is_gated else False,
            "downloads": self.downloads,
            "likes": 1,
            "tags": ["gguf", f"license:{self.licence}"],
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
            "gguf": self.gguf,
        }


def oid_of(path: str, content: bytes) -> str:
    """The name of the content: SHA-256 in large file storage, a git object's id elsewhere."""
    return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else git_oid(content)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
