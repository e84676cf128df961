"""Secret: a field's value that shows itself to nobody by accident.

A secret is *fresh* when the application has just made it, and holds the plaintext until it is written; it is *sealed*
when it came from a store, and then holds only the ciphertext and a mask. Reading an entity, changing another field and
writing it back therefore never needs the key. A mask that shows something is itself encrypted, and opened when somebody
looks at it, with the key that the read found; so an entity shows what it would have shown when it was read, whoever was
erased since. What is written down here cannot be undone by Python: plaintext that was in memory stays there until the
interpreter reuses the place.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, Generic, NoReturn, TypeVar, cast, get_args, get_origin

import msgspec

from tallystick.errors import Denied, Invalid, Tampered

__all__ = [
    "MASK",
    "Secret",
    "ciphertext_of",
    "enc_hook",
    "mask_of",
    "plaintext_of",
    "sealed",
    "secret",
    "secret_dec_hook",
]

MASK: Final = "••••"
"""What stands for a hidden value; of constant length, because a length is a hint."""

T = TypeVar("T")
S = TypeVar("S")

_encode_plain = msgspec.msgpack.Encoder(decimal_format="string", uuid_format="bytes").encode


class Secret(Generic[T]):
    """A sealed value of type ``T``; annotate a field ``Secret[str]`` to have it masked and encrypted.

    Made by ``secret(value)`` in applications and by ``sealed(ciphertext, mask)`` in stores, never by calling
    the class. Its text in every form is the mask. Two fresh secrets are equal when their plaintexts are, two
    sealed ones when their ciphertexts are, so two writes of one value differ.
    """

    __slots__ = ("_ciphertext", "_mask", "_plain")

    _ciphertext: bytes | None
    _mask: str | tuple[Any, ...]
    _plain: T

    def __init__(self, *_: object, **__: object) -> None:
        raise Invalid("A Secret is not made by calling its class.", remedy="Use secret(value).")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    @property
    def is_sealed(self) -> bool:
        """True when only the ciphertext is held, False while the plaintext waits to be written."""
        return self._ciphertext is not None

    @property
    def mask(self) -> str:
        """What may be shown in place of the value.

        Raises ``Tampered`` where a stored mask was altered or moved, as its text and JSON do; ``repr`` says so instead.
        """
        held = self._mask
        if isinstance(held, tuple):
            answer, *given = held
            _set_mask(self, held := answer(*given))
        return held

    def __repr__(self) -> str:
        try:
            return f"Secret({self.mask})"
        except Tampered:
            return "Secret(tampered)"

    def __str__(self) -> str:
        return self.mask

    def __format__(self, spec: str) -> str:
        return format(self.mask, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._ciphertext is not None or other._ciphertext is not None:
            return self._ciphertext == other._ciphertext
        return hmac.compare_digest(_comparable(self._plain), _comparable(other._plain))

    def __hash__(self) -> int:
        # Hashes of bytes are keyed per process; the hash of an int would be the secret itself.
        return hash(self._ciphertext if self._ciphertext is not None else _comparable(self._plain))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Denied("A Secret cannot be changed.", remedy="Put a new secret(value) in the field.")

    def __delattr__(self, name: str) -> NoReturn:
        raise Denied("A Secret cannot be changed.", remedy="Put a new secret(value) in the field.")

    def __reduce__(self) -> NoReturn:
        raise Denied("A Secret cannot be pickled or copied.", remedy="Pass the entity's id and read it again there.")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    def __copy__(self) -> Secret[T]:
        return self if self.is_sealed else self.__reduce__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret[T]:
        return self.__copy__()


# Slots are written through their descriptors, past the __setattr__ that refuses everybody else.
_slots = cast("Any", Secret)
_set_ciphertext, _set_mask, _set_plain = (_slots._ciphertext.__set__, _slots._mask.__set__, _slots._plain.__set__)
_new: Any = object.__new__


def secret(value: S, *, show_last: int = 0) -> Secret[S]:
    """Return a fresh secret that holds ``value`` until it is written.

    ``show_last`` characters stay visible in the mask; the stores mask by the field's own rule. Raises
    ``Invalid`` for None (leave an optional field None instead), for a Secret, and for a text that is a mask,
    which is what a client sends back when it edits what it was shown.
    """
    if value is None or isinstance(value, Secret):
        raise Invalid("A secret needs a plain value.", remedy="Use None for an optional field that is absent.")
    if isinstance(value, str) and value.startswith(MASK):
        raise Invalid("A secret's new value is its own mask.", remedy="Leave the field out when it was not changed.")
    made: Secret[S] = _new(Secret)
    _set_ciphertext(made, None)
    _set_mask(made, mask_of(value, show_last) if show_last else MASK)
    _set_plain(made, value)
    return made


def sealed(ciphertext: bytes, mask: str | tuple[Any, ...] = MASK) -> Secret[Any]:
    """Return the sealed secret that a store read; it holds no plaintext, and its value is opened by a repository only.

    ``mask`` may be a function and what it is given, which is asked once, when somebody looks.
    """
    made: Secret[Any] = _new(Secret)
    _set_ciphertext(made, ciphertext)
    _set_mask(made, mask)
    return made


def mask_of(value: object, show_last: int = 0) -> str:
    """Return the mask of a value, with its last ``show_last`` characters where that hides the larger part.

    A value shorter than twice ``show_last`` shows nothing: the last four of a four-digit PIN are the PIN.
    """
    if show_last > 0 and isinstance(value, str) and len(value) >= 2 * show_last:
        return MASK + value[-show_last:]
    return MASK


def plaintext_of(held: Secret[T]) -> T:
    """Return the plaintext of a fresh secret, for the codec that encrypts it.

    Raises ``Denied`` for a sealed one, which does not hold it.
    """
    if held.is_sealed:
        raise Denied(
            "A sealed secret does not hold its value.",
            remedy="Open it with repository.reveal(id, field, reason=...) in a session that may.",
        )
    return held._plain


def ciphertext_of(held: Secret[Any]) -> bytes:
    """Return the ciphertext of a sealed secret, for the codec that writes it back unchanged.

    Raises ``Invalid`` for a fresh one, which has none yet.
    """
    if held._ciphertext is None:
        raise Invalid("A fresh secret has no ciphertext yet.", remedy="Encrypt plaintext_of(secret) first.")
    return held._ciphertext


def secret_dec_hook(kind: Any, value: Any) -> Any:
    """Decode a field ``Secret[T]`` of a request body into a fresh secret; pass it to msgspec as ``dec_hook``.

    ``value`` is converted to ``T`` strictly. Raises ``ValueError``, to which msgspec adds the path of the field,
    with no trace of the value; ``NotImplementedError`` for other types, as msgspec expects of a hook.
    """
    if get_origin(kind) is not Secret and kind is not Secret:
        raise NotImplementedError("not a Secret")
    if isinstance(value, Secret):
        return value
    inner = (get_args(kind) or (str,))[0]
    try:
        return secret(msgspec.convert(value, inner))
    except msgspec.ValidationError:
        problem = "A secret value has the wrong type or form"
    except Invalid as wrong:
        problem = wrong.problem
    # Raised outside the handlers: the first error may quote the value, and a chained error would carry it along.
    raise ValueError(problem)


def enc_hook(value: Any) -> Any:
    """Encode a Secret as its mask; pass it to msgspec as ``enc_hook``. Other types raise ``NotImplementedError``."""
    if isinstance(value, Secret):
        return value.mask
    raise NotImplementedError("not a Secret")


def _comparable(plain: object) -> bytes:
    try:
        return f"{type(plain).__qualname__}:".encode() + _encode_plain(plain)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    raise Invalid(
        "A secret's value is of a type that cannot be stored.", remedy="Use text, bytes, numbers or a Struct."
    )
