"""The tasks: slow work for which no visitor waits. Each of them may run twice."""

from __future__ import annotations

from django.core.files.storage import default_storage

from bgtasks import background, set_progress
from signup import files, images, mails, spreadsheets
from signup.models import Avatar, Report, User, Work

# Seconds. The largest picture that the form takes needs three. It is for files that nobody has
# thought of: a decoder that they keep busy is ended, and holds up no other task for long.
DECODING_TIMEOUT = 60


@background
def send_welcome_email(user_id: int) -> str:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        return "No such user any more"
    if not user.email:
        return "No email provided"
    mails.welcome(user).send()
    return "Sent"


@background
def send_password_reset(email: str) -> None:
    """Send a link to each account of this address.

    The secret in the link is made here, so that it never stands in a row.
    """
    form = mails.PasswordResetMail({"email": email})
    if form.is_valid():
        form.save()


@background(timeout=DECODING_TIMEOUT)
def make_renditions(avatar_id: str) -> str:
    """Make an avatar's pictures from the upload, then remove the upload."""
    avatar = Avatar.objects.filter(pk=avatar_id, state=Avatar.State.PENDING).first()
    if avatar is None:
        return "Nothing to do"
    try:
        _render(avatar)
    except images.BadImage as error:
        if avatar.give_up(str(error)):
            files.discard(files.names_of(avatar))
        return f"Failed: {error}"
    if not avatar.take_over():
        return _discard_unwanted(avatar)
    files.discard([files.original_name(avatar.pk)])
    return "Made"


def _render(avatar: Avatar) -> None:
    with default_storage.open(files.original_name(avatar.pk)) as file:
        original = file.read()
    steps = len(avatar.SIZES) + 1
    set_progress(1, steps, "decoding")
    made = images.renditions(original, avatar.SIZES)
    for step, (size, content) in enumerate(made, start=2):
        files.put(files.picture_name(avatar.pk, size), content)
        set_progress(step, steps, f"{size} pixels")


def _discard_unwanted(work: Work) -> str:
    """Delete the files of work that is not pending any more, unless another run has finished it.

    Files have the same names in all runs. So if another run has finished the work, the files that
    this run has written are in use.
    """
    if type(work)._default_manager.filter(pk=work.pk, state=Work.State.READY).exists():
        return "Done by another run"
    files.discard(files.names_of(work))
    return "No longer wanted"


@background
def build_report(report_id: str) -> str:
    """Write a report's spreadsheet into the storage."""
    report = Report.objects.filter(pk=report_id, state=Report.State.PENDING).first()
    if report is None:
        return "Nothing to do"
    with spreadsheets.signups(report) as spreadsheet:
        files.put(files.report_name(report.pk), spreadsheet)
    if not report.finish():
        return _discard_unwanted(report)
    return "Built"


@background
def discard_files(names: list[str]) -> None:
    files.discard(names)


@background(cron="17 * * * *", unique=True)
def sweep_files() -> int:
    return files.sweep()
