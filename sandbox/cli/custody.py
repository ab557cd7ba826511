"""`saggar keys split`, `recover`, `destroy-share`, `rotate`, `passphrase`: ceremonies over the master key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli.session import console, new_passphrase, passphrase_for, session, told
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import FileFormatError, InputError, KeyUnavailableError, StorageError, VaultError
from sandbox.model.keys import PublicKey, Role
from sandbox.service.ceremonies import OpenKeys
from sandbox.vault.custody import OpenedShare, Share

YesOption = Annotated[bool, typer.Option("--yes", help="Ask nothing; for scripts.")]


def add_to(keys: typer.Typer) -> None:
    """Add these commands to `saggar keys`."""
    keys.command(epilog="Example: saggar keys split --custodians an,bo,chen,dai,ma --threshold 3 --out shares")(split)
    keys.command(epilog="Example: saggar keys recover --share an.share --share bo.share --share ma.share")(recover)
    keys.command(
        name="destroy-share", epilog="Example: saggar keys destroy-share an.share --key an.key --out an.receipt"
    )(destroy_share)
    keys.command(name="declare-lost", epilog="Example: saggar keys declare-lost an --by bo --by chen --out an.lost")(
        declare_lost
    )
    keys.command(epilog="Example: saggar keys rotate --dataset hospital")(rotate)
    keys.command(epilog="Example: saggar keys passphrase")(passphrase)
    keys.command(name="second-factor", epilog="Example: saggar keys second-factor /media/key/saggar.factor")(
        second_factor
    )


@told
def split(
    custodians: Annotated[str, typer.Option(help="Key names of the custodians, separated by commas.")],
    threshold: Annotated[int, typer.Option(help="How many shares bring the master key back.")] = 3,
    out: Annotated[Path, typer.Option(help="The directory for the shares.")] = Path("shares"),
    yes: YesOption = False,
) -> None:
    """Split the master key among custodians; a few of them together can bring it back 分持."""
    from sandbox.service.ceremonies import deal
    from sandbox.service.files import write_durably
    from sandbox.vault.custody import check_custodians

    names = [name.strip() for name in custodians.split(",") if name.strip()]
    people = registered(names)
    check_custodians(people, threshold)
    paths = [new_file(out / f"{name}.share") for name in names]
    console.print(
        f"The master key will be split among {len(people)} custodians: {', '.join(names)}.\n"
        f"Any {threshold} of them can bring it back; {threshold - 1} or fewer learn nothing.\n"
        "Each share is sealed to its custodian's key and signed. It goes to its custodian and to nobody else."
    )
    confirm("deal the shares", yes)
    with opened_keys("keys split") as keys:
        for path, share in zip(paths, deal(keys, people, threshold=threshold), strict=True):
            write_durably(path, share.to_bytes())
            console.print(f"  {path}  for [bold]{share.custodian}[/], share {share.index} of {share.shares}")
    console.print(f"check value (KCV) of the master key: [bold]{share.kcv}[/], ceremony {share.ceremony}")
    console.print("write both down; then rehearse: [cyan]saggar keys recover --rehearse --share FILE …[/]")


@told
def recover(
    share: Annotated[list[Path], typer.Option("--share", help="A share; repeat until there are enough.")],
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="A custodian's key file, where it is not in the state directory.")
    ] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Combine and compare, and change nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Bring the master key back from custodians' shares, under a new passphrase 恢复."""
    from sandbox.service.ceremonies import check_ring, recover_keys
    from sandbox.vault.custody import combine_shares

    trusted = registered_as(Role.SANDBOX)
    shares = [_verified(path, trusted) for path in share]
    opened = [_open(each, key or []) for each in shares]
    ring = combine_shares(opened)
    console.print(
        f"{len(opened)} shares give master key version {ring.primary.version}; its check value is "
        f"[bold]{shares[0].kcv}[/]"
    )
    if rehearse:
        check_ring(session.state, ring)
        console.print("[green]holds[/]: the shares bring the key back; nothing was changed")
        return
    confirm("lock the recovered keys under a new passphrase", yes)
    recover_keys(session.state, opened, passphrase=new_passphrase("sandbox"), wait_s=session.wait_s)
    console.print("the master key and the sandbox's keys are back, under the new passphrase")


@told
def destroy_share(
    share: Annotated[Path, typer.Argument(help="The share; it is deleted.")],
    key: Annotated[Path, typer.Option(help="The custodian's own key file.")],
    out: Annotated[Path, typer.Option(help="Where the signed receipt goes.")],
    yes: YesOption = False,
) -> None:
    """Destroy a share, as its custodian, and sign a receipt for it."""
    from sandbox.model.canonical import canonical_bytes
    from sandbox.service.clock import SystemClock
    from sandbox.service.files import put_in_place, write_aside
    from sandbox.vault.custody import open_share
    from sandbox.vault.outstanding import receipt_for

    record, holder = Share.parse(read_file(share), name=share.name), open_key(key)
    open_share(record, holder)
    new_file(out)
    console.print("You sign that this share is destroyed together with every copy of it, on paper and on any medium.")
    confirm(f"destroy share {record.index} of ceremony {record.ceremony[:12]}", yes)
    receipt = receipt_for(record, holder, at=SystemClock().now())
    # The receipt is on the disk before the share goes, and has its name only after: no disk takes both away, and
    # nobody finds a receipt for a share that is still there.
    aside = write_aside(out, canonical_bytes(receipt.to_record()), mode=0o644)
    _delete(share, aside)
    put_in_place(aside, out)
    console.print(f"destroyed {share}; receipt in {out}")


@told
def declare_lost(
    custodian: Annotated[str, typer.Argument(help="The custodian whose share is lost.")],
    by: Annotated[
        list[str], typer.Option("--by", help="Who says so: the custodian, or as many others as the threshold; repeat.")
    ],
    out: Annotated[Path, typer.Option(help="Where the signed declaration goes.")],
    ceremony: Annotated[str | None, typer.Option(help="Which ceremony, where there are several.")] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="A custodian's key file, where it is not in the state directory.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Declare a share lost, so that an epoch can be closed without it 挂失."""
    from sandbox.model.canonical import canonical_bytes
    from sandbox.service.files import write_durably
    from sandbox.vault.lost import declare_lost as sign_lost
    from sandbox.vault.lost import find_share
    from sandbox.vault.outstanding import ceremonies

    new_file(out)
    with opened_keys("keys declare-lost") as keys:
        found, at = find_share(ceremonies(keys.keyring), custodian, ceremony), keys.clock.now()
    console.print(
        f"You sign that the share of [bold]{custodian}[/] in ceremony {found['ceremony'][:12]} cannot be found.\n"
        "Whoever finds it, with its holder's key, has it again: the record of the closed epoch will say so."
    )
    confirm(f"declare the share of {custodian} lost", yes)
    signers = [_key_of(person.key_id, person.name, key or []) for person in registered(list(dict.fromkeys(by)))]
    write_durably(out, canonical_bytes(sign_lost(found, custodian, signers, at=at).to_record()), mode=0o644)
    console.print(f"declared lost: the share of {custodian}; hand {out} in with `saggar keys close-epoch --lost`")


@told
def rotate(
    dataset: Annotated[str | None, typer.Option(help="The dataset whose key gets a new version.")] = None,
    master: Annotated[bool, typer.Option("--master", help="Give the master key a new version.")] = False,
    yes: YesOption = False,
) -> None:
    """Give a key a new version: keys are wrapped again, data is not touched 轮换."""
    from sandbox.service.ceremonies import rotate as turn

    if (dataset is None) != master:
        raise InputError("name one key to rotate", hint="use `--dataset NAME`, or `--master`", code="input.rotate")
    if master:
        console.print("Shares of the old master key bring back a key that opens nothing new: split the new one after.")
    confirm("rotate the master key" if master else f"rotate the key of {dataset}", yes)
    phrase = passphrase_for("sandbox")
    with opened_keys("keys rotate", phrase) as keys:
        version = turn(keys, phrase, dataset=dataset)
    console.print(
        f"{'the master key' if master else dataset} is at version {version}; the one before opens nothing here"
    )
    if master:
        console.print("next: [cyan]saggar keys split --custodians …[/]")


@told
def passphrase() -> None:
    """Change the passphrase of the sandbox's keys and the vault 改口令."""
    from sandbox.service.ceremonies import change_passphrase

    with opened_keys("keys passphrase") as keys:
        change_passphrase(keys, new_passphrase("sandbox"))
    console.print("changed; backups from before still open under the old passphrase")


@told
def second_factor(
    path: Annotated[Path | None, typer.Argument(help="A new file on another medium.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Need the passphrase alone from now on.")] = False,
    yes: YesOption = False,
) -> None:
    """Need a secret on another medium beside the passphrase, a fresh one each time 第二要素."""
    from sandbox.service.ceremonies import set_second_factor

    if (path is None) != none:
        raise InputError(
            "name the new file, or no second factor", hint="give a path, or `--none`", code="input.second_factor"
        )
    if none:
        console.print("Without a second factor, old backups open for whoever remembers the passphrase of their day.")
    confirm("remove the second factor" if none else f"draw a new second factor at {path}", yes)
    phrase = passphrase_for("sandbox")
    with opened_keys("keys second-factor", phrase) as keys:
        set_second_factor(keys, path, passphrase=phrase)
    if none:
        console.print("the passphrase alone opens the vault now")
        return
    console.print(f"the vault opens with the passphrase and [bold]{path}[/] together; the one before is destroyed")
    console.print("never back it up together with the state directory; the custodians' shares replace it if it is lost")


@contextmanager
def opened_keys(purpose: str, phrase: str | None = None) -> Iterator[OpenKeys]:
    """Open the state directory's keys for a ceremony."""
    from sandbox.service.ceremonies import open_keys

    chosen = phrase or passphrase_for("sandbox")
    with open_keys(session.state, passphrase=chosen, purpose=purpose, wait_s=session.wait_s) as keys:
        yield keys


def registered(names: list[str]) -> list[PublicKey]:
    """Return the registered keys of these names, in order."""
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        known = {key.name: key for key in records.state().keys.values()}
    for name in names:
        if name not in known:
            raise InputError(
                f"no registered key is called `{name}`",
                hint="list them with `saggar keys list`",
                code="input.unknown_key",
            )
    return [known[name] for name in names]


def registered_as(role: Role) -> tuple[PublicKey, ...]:
    """Return the registered keys of a role."""
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        return records.trusted(role)


def confirm(what: str, yes: bool) -> None:
    """Ask whether to go on; without a terminal, only `--yes` does."""
    if not yes:
        typer.confirm(f"{what}?", abort=True)


def open_key(path: Path) -> PrivateKey:
    """Return the private key of a key file; its holder types the passphrase."""
    from sandbox.crypto.named_file import public_of, unlock_file

    raw = read_file(path)
    return unlock_file(raw, passphrase_for(public_of(raw, str(path)).name), str(path))


def new_file(path: Path) -> Path:
    """Return the path of a file to write, or refuse one that is there already.

    Raises:
        InputError: there is something of that name (`input.exists`): what a ceremony wrote is never written over.
    """
    if path.exists() or path.is_symlink():
        raise InputError(
            f"there is a `{path}` already", hint="name a new file or directory with `--out`", code="input.exists"
        )
    return path


def read_file(path: Path) -> bytes:
    """Return a file's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(
            f"file `{path}` cannot be read", hint="check the path", code="input.file.missing"
        ) from error


def _verified(path: Path, trusted: tuple[PublicKey, ...]) -> Share:
    """Return the share in a file, signed by the sandbox; errors name its holder and the file."""
    from sandbox.vault.custody import verify_share

    share = Share.parse(read_file(path), name=path.name)
    try:
        verify_share(share, trusted)
    except VaultError as error:
        raise VaultError(
            f"{error.message} (file `{path.name}`)", hint=error.hint, code=error.code, **error.details
        ) from error
    return share


def _delete(share: Path, receipt: Path) -> None:
    """Delete a share, or, where that cannot be done, the receipt that would say so."""
    from sandbox.service.second_factor import destroy_file

    try:
        destroy_file(share)
    except OSError as error:
        receipt.unlink(missing_ok=True)
        raise StorageError(
            f"`{share}` cannot be deleted: {os.strerror(error.errno or 0).lower()}",
            hint="nothing was signed; make its medium writable and call the command again",
        ) from error


def _open(share: Share, key_files: list[Path]) -> OpenedShare:
    from sandbox.vault.custody import open_share

    return open_share(share, _key_of(share.key_id, share.custodian, key_files))


def _key_of(key_id: str, name: str, key_files: list[Path]) -> PrivateKey:
    """Return a custodian's private key, from the files named or from the state directory."""
    from sandbox.crypto.named_file import public_of
    from sandbox.service.config import Layout

    own = Layout(session.state).keys / f"{name}.key"
    for path in [*key_files, *([own] if own.exists() else [])]:
        if public_of(read_file(path), str(path)).key_id == key_id:
            return open_key(path)
    raise KeyUnavailableError(
        f"the key file of custodian `{name}` is not here",
        hint=f"`{name}` brings it: add `--key FILE`",
        code="vault.key_unavailable.no_file",
    )
