"""None. Django sends ``post_migrate`` to an app only if it has this module; see apps.py."""
