"""File destinations in an object store: an object per delivery, there whole or not at all.

As in a folder, a delivery that is written again replaces its own object.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from pyarrow import fs

from cdp.activation.address import PRIVATE_SETTING, is_refused, read_literal
from cdp.activation.bucket import Bucket, read_bucket
from cdp.activation.delivery import Delivery
from cdp.activation.drop_folder import name_file, write_rows
from cdp.activation.retry import Attempt

_MOST_SAID = 200


def put_object(
    settings: Mapping[str, Any],
    fields: Sequence[str],
    delivery: Delivery,
    *,
    seconds: float,
    allows_private: bool,
) -> Attempt:
    """Write ``delivery`` as one object; ``seconds`` is for each request to the store."""
    bucket = read_bucket(settings)
    if not allows_private and _leads_inside(bucket):
        return Attempt(
            False,
            error=f"{bucket.host} leads to an address that is not on the public network;"
            f" {PRIVATE_SETTING}=true allows it",
        )
    content = write_rows(settings, delivery.rows, fields)
    try:
        store = open_store(bucket, settings, seconds=seconds)
        path = f"{bucket.path}/{name_file(settings, delivery)}"
        with store.open_output_stream(path) as stream:
            stream.write(content)
    except OSError as error:
        said = " ".join(str(error).split())[:_MOST_SAID]
        return Attempt(False, error=f"the store did not take it: {said}")
    return Attempt(True)


def open_store(bucket: Bucket, settings: Mapping[str, Any], *, seconds: float) -> fs.S3FileSystem:
    """Return the store of ``bucket``. Only the keys in ``settings`` are used, never this machine's:

    whoever makes a destination must not write by rights that are not theirs. It tries once; what
    fails is tried again as a delivery is.
    """
    return fs.S3FileSystem(
        access_key=settings["access_key_id"],
        secret_key=settings["secret_access_key"],
        region=bucket.region,
        scheme=bucket.scheme,
        endpoint_override=bucket.endpoint,
        connect_timeout=seconds,
        request_timeout=seconds,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        allow_delayed_open=True,
    )


def _leads_inside(bucket: Bucket) -> bool:
    """Whether the store's name leads anywhere but to the public network now."""
    literal = read_literal(bucket.host)
    if literal is not None:
        return is_refused(literal)
    try:
        infos = socket.getaddrinfo(bucket.host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # Leads nowhere, which the store's client says.
    addresses = [read_literal(str(info[4][0])) for info in infos]
    return any(address is None or is_refused(address) for address in addresses)
