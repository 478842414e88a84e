"""Who is who: identifiers, the facts that tie them together, and the replay that decides."""
