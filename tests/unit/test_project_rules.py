"""Who is told what when a project's status changes."""

from datetime import UTC, datetime

from jasaweb_rt.database.projects import Project
from jasaweb_rt.domain.projects import change_status

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = Project("p", "owner", "Site", "company", "in_progress", None, MOMENT, MOMENT)


def test_the_same_status_is_no_change() -> None:
    assert change_status(PROJECT, "in_progress", "Boss") is None


def test_owner_and_admins_are_told_in_the_guides_words() -> None:
    change = change_status(PROJECT, "review", "Boss")
    assert change is not None
    owner, *admins = change.notifications(["boss", "owner"])
    assert (owner.user_id, owner.type) == ("owner", "project_update")
    assert owner.message == 'Project "Site" status updated to review'
    assert owner.data == {
        "projectId": "p",
        "projectName": "Site",
        "oldStatus": "in_progress",
        "newStatus": "review",
        "message": 'Project "Site" status updated to review',
    }
    assert [(item.user_id, item.type) for item in admins] == [("boss", "admin_alert"), ("owner", "admin_alert")]
    assert admins[0].data == {
        "event": "project_status_change",
        "message": 'Project "Site" status changed to review by Boss',
        "projectId": "p",
        "requiresAction": False,
    }
