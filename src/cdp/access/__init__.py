"""Who may ask for what: tokens, scopes, the guard in front of every route, masks, the audit."""
