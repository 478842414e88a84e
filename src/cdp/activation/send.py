"""Take one delivery to its destination, whatever type that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cdp.activation.bucket_folder import put_object
from cdp.activation.delivery import Delivery
from cdp.activation.destination import Destination
from cdp.activation.drop_folder import drop_file
from cdp.activation.retry import Attempt
from cdp.activation.send_topic import send_to_topic
from cdp.activation.send_webhook import send_webhook

FOLDER = "drops"
"""Below the data folder: where files of destinations are, unless a setting says otherwise."""


def find_folder(data_dir: Path, drop_dir: Path | None) -> Path:
    """Return the folder below which files are dropped."""
    return drop_dir or data_dir / FOLDER


def make_send(
    root: Path, *, seconds: float, allows_private: bool
) -> Callable[[Destination, Delivery], Attempt]:
    """Return what sends; files go below ``root``, an attempt takes up to ``seconds``."""

    def send(destination: Destination, delivery: Delivery) -> Attempt:
        settings = destination.settings
        match destination.type:
            case "webhook":
                return send_webhook(
                    settings,
                    destination.secret,
                    delivery,
                    seconds=seconds,
                    allows_private=allows_private,
                )
            case "kafka":
                return send_to_topic(
                    settings, delivery, seconds=seconds, allows_private=allows_private
                )
            case "file" if "url" in settings:
                return put_object(
                    settings,
                    destination.fields,
                    delivery,
                    seconds=seconds,
                    allows_private=allows_private,
                )
            case "file":
                return drop_file(root, settings, destination.fields, delivery)

    return send
