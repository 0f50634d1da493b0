/*
 * check_grants: may failover_user do what a failover needs? Asked in its own session and database,
 * because privileges on functions count in one database, and because its password and pg_hba.conf
 * are looked at on the way. Pure.
 */
#include "check_inside.h"
#include "pgstage/base/text.h"

/* Privileges on parameters exist since PostgreSQL 15; an older server must not even read the name
 * of the function, so that question is a text. */
const char check_grants_sql[] =
    "SELECT pg_catalog.concat_ws(', ',"
    " CASE WHEN NOT pg_catalog.has_function_privilege("
    "'pg_catalog.pg_promote(boolean, integer)', 'EXECUTE')"
    " THEN 'EXECUTE ON FUNCTION pg_promote(boolean, integer)' END,"
    " CASE WHEN NOT pg_catalog.has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE')"
    " THEN 'EXECUTE ON FUNCTION pg_reload_conf()' END,"
    " CASE WHEN NOT pg_catalog.pg_has_role('pg_monitor', 'USAGE') THEN 'pg_monitor' END,"
    " CASE WHEN pg_catalog.current_setting('is_superuser') = 'on' THEN NULL"
    " WHEN pg_catalog.current_setting('server_version_num')::int < 150000"
    " THEN 'SUPERUSER, for ALTER SYSTEM before PostgreSQL 15'"
    " WHEN pg_catalog.query_to_xml('SELECT pg_catalog.has_parameter_privilege("
    "''primary_conninfo'', ''ALTER SYSTEM'') AS granted', false, true, '')::text"
    " NOT LIKE '%<granted>true</granted>%'"
    " THEN 'ALTER SYSTEM ON PARAMETER primary_conninfo' END)";

void check_judge_grants(struct check_rows *to, const char *environment, const char *host,
                        const PGresult *rows, const char *problem, const struct settings *settings,
                        uint64_t duration_us)
{
    bool promotes = settings->failover_mode == FAILOVER_PROMOTE;
    enum check_verdict bad = promotes ? CHECK_ERROR : CHECK_WARNING;
    const char *lacks = NULL;
    if (rows && PQntuples(rows) == 1 && PQnfields(rows) == 1)
        lacks = PQgetvalue(rows, 0, 0);
    if (!lacks)
        check_rows_add(to, environment, host, "failover_user", bad, duration_us, "as %s to %s: %s",
                       settings->failover_user, settings->failover_dbname,
                       problem ? problem : "the answer is not what was asked for");
    else if (*lacks)
        check_rows_add(to, environment, host, "failover_user", bad, duration_us,
                       "%s lacks: %s (doc/failover.md has the GRANTs; in the database %s)",
                       settings->failover_user, lacks, settings->failover_dbname);
    else
        check_rows_add(to, environment, host, "failover_user", CHECK_OK, duration_us,
                       "%s may promote, and tell others whom to follow", settings->failover_user);
}
