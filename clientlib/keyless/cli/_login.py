"""`keyless login` and `keyless logout`: begin a session, and end it.

The daemon logs in; here the browser is opened, the code shown, and the result told. What a person
must read goes to standard error, what a program may read to standard output.
"""

import os
import sys

from keyless.cli._browser import has_display, open_browser
from keyless.cli._inputs import WHERE, where_of
from keyless.cli._options import Option, Options, UsageError
from keyless.cli._output import OK, err, json_line, out, shown
from keyless.cli._passphrase import read_secret
from keyless.cli._session import client_of, read_options
from keyless.cli._text import moment
from keyless.errors import KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyless._client import Client
    from keyless.states import Identity

ABOUT_LOGIN = """
Log in once; everything the daemon signs from then on is signed as you, until the session ends.
A browser opens on this machine; with --device you enter a code on any other.
"""

ABOUT_LOGOUT = """
End a session: the one that is meant by default, or those that are named. What the issuer cannot
take back is said.
"""

# What `--connector` may be short for: the names by which Sigstore's issuer knows them.
CONNECTORS = {
    "github": "https://github.com/login/oauth",
    "google": "https://accounts.google.com",
    "microsoft": "https://login.microsoftonline.com",
}

# By which CI systems tell their jobs that they are some.
CI_VARIABLES = (
    *("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "TF_BUILD", "JENKINS_URL"),
    *("TEAMCITY_VERSION", "CODEBUILD_BUILD_ID"),
)

LOGIN = (
    Option("--device", "", "show a code to be entered in a browser anywhere"),
    Option("--oob", "", "show a page that gives a code to paste here (Dex only)"),
    Option("--no-browser", "", "print the page's address instead of opening it"),
    Option("--connector", "NAME", "skip the choice: github, google, microsoft, or an id"),
    Option("--identity", "NAME", "who is to log in; nobody else is taken"),
    Option("--default", "", "sign as this identity where none is named"),
    Option("--oidc-client-id", "ID", "whom the issuer knows us as (default: sigstore)"),
)
LOGOUT = (
    Option("--identity", "NAME", "end the sessions of this identity"),
    Option("--instance", "NAME", "end the sessions of this instance"),
    Option("--all", "", "end all of them"),
)


def run(command: str, argv: "list[str]") -> int:
    """Log in or out; return the exit code."""
    is_login = command == "login"
    groups: tuple[tuple[str, tuple[Option, ...]], ...]
    groups = (("login", LOGIN), ("where", WHERE)) if is_login else (("logout", LOGOUT),)
    about = ABOUT_LOGIN if is_login else ABOUT_LOGOUT
    options = read_options(command, argv, "", about, groups)
    if options is None:
        return OK
    if options.words:
        raise UsageError(f"unexpected argument {options.words[0]}")
    return _login(options) if is_login else _logout(options)


def _login(options: Options) -> int:
    flow = _flow(options, os.environ)
    connector = options.text("connector")
    counter = Counter(options)
    with client_of(options) as client:
        identity = client.login(
            on_event=counter.event,
            where=where_of(options, os.environ),
            flow=flow,
            connector=CONNECTORS.get(connector or "", connector),
            identity=options.text("identity"),
            client_id=options.text("oidc_client_id"),
            default=options.flag("default"),
        )
    if options.flag("json"):
        json_line(identity.as_dict())
    elif not options.flag("quiet"):
        out(f"signed in as {shown(identity.identity)} ({shown(identity.issuer)})")
        out(f"  {_until(identity)}")
    return OK


def _flow(options: Options, environ: "Mapping[str, str]") -> str:
    """Return how to log in, or say how where the usual way leads nowhere.

    Raises:
        UsageError: two ways at once.
        KeylessError: ``login_required``: there is no display for a browser.
    """
    if options.flag("device") and options.flag("oob"):
        raise UsageError("--device and --oob exclude each other")
    if options.flag("device"):
        return "device"
    if options.flag("oob"):
        return "oob"
    if _is_job(environ) and not options.flag("no_browser"):
        raise KeylessError(
            "login_required",
            "this is a CI job, and nobody here could use a browser",
            hint="give the job an identity of its own: SIGSTORE_ID_TOKEN, or its platform's; to log"
            " in all the same, `keyless login --device`",
        )
    if not options.flag("no_browser") and not has_display(environ):
        raise KeylessError(
            "login_required",
            "there is no display here for a browser",
            hint="run `keyless login --device` and enter the code in a browser anywhere",
        )
    return "browser"


def _is_job(environ: "Mapping[str, str]") -> bool:
    said = (environ.get(name, "").lower() for name in CI_VARIABLES)
    return any(value not in ("", "0", "false", "no") for value in said)


def _until(identity: "Identity") -> str:
    ends = identity.ends if identity.renewable else identity.prompt_due
    if ends is None:
        return "until the daemon stops"
    if identity.renewable:
        return f"renewed by itself until {moment(ends)}"
    return f"until {moment(ends)}; the issuer gave no leave to renew it"


class Counter:
    """Where the person is told what to do, as the daemon says it.

    Args:
        options: Of the command.
    """

    def __init__(self, options: Options) -> None:
        self._options = options

    def event(self, name: str, facts: "dict[str, str | int]") -> None:
        """Show one event of the login."""
        if name == "open_url":
            self._open(str(facts["url"]))
        elif name == "device_code":
            self._device(facts)
        elif name == "enter_code":
            self._paste(str(facts["url"]), str(facts["login"]))
        sys.stderr.flush()

    def _open(self, url: str) -> None:
        if not self._options.flag("no_browser") and open_browser(url, os.environ):
            if not self._options.flag("quiet"):
                err("keyless: log in in the browser window that opens; if none does, open this one")
                err(f"  {shown(url)}")
            return
        err("keyless: open this page in a browser of this machine to log in")
        err(f"  {shown(url)}")

    def _device(self, facts: "dict[str, str | int]") -> None:
        # Never on standard output: that may be a log which others read.
        err("keyless: to log in, open")
        err(f"  {shown(str(facts['verification_uri']))}")
        err(f"and enter the code   {shown(str(facts['user_code']))}")
        whole = facts.get("verification_uri_complete")
        if whole is not None:
            err(f"or open {shown(str(whole))}")
        err("Enter no code that somebody else has sent you.")

    def _paste(self, url: str, login: str) -> None:
        err("keyless: open this page, log in, and paste the code that it shows")
        err(f"  {shown(url)}")
        err("Give the code to nobody, and paste none from a page that you did not open yourself.")
        code = read_secret("Code: ", what="the code")
        # The connection is busy with the login itself.
        with client_of(self._options) as client:
            client.login_code(login, code)


def _meant(client: "Client", options: Options) -> "tuple[str | None, str | None]":
    """Return whom `keyless sign` would sign as here, or the only session there is; else nobody.

    Raises:
        KeylessError: ``usage``: there are several, and none of them would be meant here.
    """
    where = where_of(options, os.environ)
    sessions = [one for one in client.whoami(where=where) if one.source == "session"]
    sessions = [one for one in sessions if one.state != "login_required"] or sessions
    if len(sessions) > 1:
        instance = where.instance or client.status().default_instance
        here = [one for one in sessions if one.default and one.instance == instance]
        if not here:
            raise KeylessError(
                "usage",
                f"{len(sessions)} sessions, and none of them is the default of {instance}",
                hint="say which with --identity or --instance, or end them all with --all",
            )
        sessions = here
    return (sessions[0].identity, sessions[0].instance) if sessions else (None, None)


def _logout(options: Options) -> int:
    identity, instance = options.text("identity"), options.text("instance")
    everyone = options.flag("all")
    with client_of(options) as client:
        if identity is None and instance is None and not everyone:
            identity, instance = _meant(client, options)
        ended = client.logout(identity=identity, instance=instance, everyone=everyone)
    for one in ended:
        if options.flag("json"):
            json_line(one.as_dict())
        elif not options.flag("quiet"):
            where = "" if not one.instance else f" at {shown(one.instance)}"
            out(f"signed out {shown(one.identity)} ({shown(one.issuer)}){where}")
            if one.reason is not None:
                out(f"  not revoked: {shown(one.reason)}")
    if not ended and not options.flag("quiet"):
        err("keyless: nobody was signed in")
    return OK
