"""What a command raises when it was asked for something that it cannot do."""


class UsageError(Exception):
    """One sentence for the user: what was asked, what was found, what to do. The command ends with exit status 2."""
