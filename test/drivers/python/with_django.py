"""Django with its defaults: server-side cursors, persistent connections, migrations."""
import os
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": os.environ["PGPORT"],
            "USER": "app",
            "NAME": "app",
            "OPTIONS": {"sslmode": "disable"},
            "CONN_MAX_AGE": None,  # kept for ever
            "TIME_ZONE": "Asia/Tokyo",
        }
    },
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.utils import OperationalError  # noqa: E402

from tap import SESSION, concurrently, equal, restart_server, run_own  # noqa: E402


def value(sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchone()[0]


def case_migrate():
    call_command("migrate", verbosity=0)
    equal(Group.objects.count(), 0)


def case_objects_and_atomic():
    Group.objects.bulk_create(Group(name=f"group {n}") for n in range(3000))
    try:
        with transaction.atomic():
            Group.objects.create(name="lost")
            with transaction.atomic():
                Group.objects.create(name="group 1")
        raise AssertionError("no error")
    except IntegrityError:
        pass
    equal(Group.objects.filter(name__in=["lost", "group 1"]).count(), 1)
    user = User.objects.create_user("somebody", password="secret")
    user.groups.add(Group.objects.get(name="group 7"))
    equal(list(user.groups.values_list("name", flat=True)), ["group 7"])


def case_server_side_cursor():
    """iterator() outside of a transaction is a cursor WITH HOLD; no DISABLE_SERVER_SIDE_CURSORS."""
    names = set()
    for group in Group.objects.order_by("id").iterator(chunk_size=500):
        names.add(group.name)
        if len(names) % 1000 == 0:
            equal(Group.objects.filter(pk=group.pk).count(), 1)  # other statements between
    equal(len(names), 3000)
    with transaction.atomic():
        equal(sum(1 for _ in Group.objects.iterator(chunk_size=500)), 3000)


def case_time_zone_of_the_connection():
    for _ in range(10):
        equal(value("SHOW TimeZone"), "Asia/Tokyo")


def case_server_restart():
    equal(User.objects.count(), 1)
    restart_server()
    try:
        equal(User.objects.count(), 1)
        equal(SESSION, False)
    except OperationalError:
        if not SESSION:
            raise
        connection.close()
        equal(User.objects.count(), 1)


def case_persistent_connections_of_threads():
    def work(number):
        try:
            for n in range(30):
                with transaction.atomic():
                    group = Group.objects.select_for_update().get(name=f"group {number}")
                    group.name = f"group {number}"
                    group.save()
                equal(value("SELECT %s::int", number * 1000 + n), number * 1000 + n)
        finally:
            if SESSION:
                connection.close()
            else:
                connection.close_if_unusable_or_obsolete()  # stays open: CONN_MAX_AGE is None

    connection.close()
    concurrently(work)


if __name__ == "__main__":
    run_own(sys.modules[__name__])
