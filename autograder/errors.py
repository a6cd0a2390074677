"""The one kind of error that is the user's to put right."""


class UserError(Exception):
    """Something a user asked for cannot be done; the message is one sentence: what is wrong, where, what to do.

    The `course` command shows it without a traceback and ends with exit code 2.
    """
