"""Keeps the secret that a command handles, a token or a passphrase, out of core files."""

import resource


def leave_no_core() -> None:
    """Let this process, and what it starts, leave no core if it crashes.

    Of commands only: what a library does to the process that loads it is not its business.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # core(5): a limit of 0 does not hold where cores go to a program, such as systemd-coredump,
    # whereas the kernel takes 1 to mean: to nobody.
    soft = min(1, hard) if hard != resource.RLIM_INFINITY else 1
    try:  # noqa: SIM105  # contextlib is heavier than this
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    except OSError:
        pass  # whoever runs us lets nobody change limits, and has chosen this one
