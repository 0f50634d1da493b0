/*
 * reload: from a file to the configuration in force.
 *
 *   file ─ reload_load ─► snapshot ─ reload_apply ─► plane_reload ─► log, timers
 *             └─ every mistake in the log,  └─ listeners or TLS files that cannot be used
 *                nothing changed               nothing changed
 *
 * SIGHUP and the console's RELOAD are the same call. What needs a restart is named in a warning
 * when it differs, since it is in the file but not in force. Control thread; the loading blocks on
 * the disk, which holds up the console but no client.
 */
#include "reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/admin/admin.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/chain.h"
#include "pgstage/base/log.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/option.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/show.h"
#include "pgstage/session/audit.h"
#include "pgstage/session/plane.h"

struct snapshot *reload_load(const char *file, bool warn, bool waits, char **problem)
{
    struct report report = {0};
    struct buffer mistakes = {0};
    struct snapshot *snapshot = snapshot_load(file, waits, &report);
    for (size_t i = 0; i < report.count; i++) {
        char *line = report_line(&report.entries[i]);
        if (report.entries[i].is_error) {
            buffer_print(&mistakes, "%s%s", mistakes.length ? "\n" : "", line);
            log_error("%s", line);
        } else if (warn) {
            log_warning("%s", line);
        }
        free(line);
    }
    report_fini(&report);
    buffer_put_u8(&mistakes, '\0');
    if (problem && !snapshot)
        *problem = (char *)mistakes.data;
    else
        buffer_fini(&mistakes);
    return snapshot;
}

bool reload_open_log(const struct snapshot *snapshot, const struct reload_log *log)
{
    const struct settings *globals = snapshot_globals(snapshot);
    int64_t verbose = globals->verbose > log->verbose ? globals->verbose : log->verbose;
    struct log_settings settings = {
        .file = globals->logfile,
        .to_stderr = log->to_stderr,
        .syslog = globals->syslog,
        .syslog_ident = globals->syslog_ident,
        .syslog_facility = globals->syslog_facility,
        .minimum = settings_log_rank(globals),
        .verbose = verbose > 2 ? 2 : (int)verbose,
    };
    return log_open(&settings);
}

/* Names what is in the new configuration but waits for a restart. */
static void warn_of_restart(const struct snapshot *old, const struct snapshot *new)
{
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        if (option->reload != RELOAD_RESTART || !(option->scopes & SCOPE_GLOBAL))
            continue;
        if (!option_value_equal(option, option_load(option, snapshot_globals(old)),
                                option_load(option, snapshot_globals(new))))
            log_warning("%s has changed: the new value holds after a restart", option->name);
    }
}

/* Secrets are masked in it, so the hash gives none away. */
static void put_hash(struct audit_record *record, const char *name, const struct snapshot *snapshot)
{
    char *text = NULL, hash[CHAIN_HASH_BYTES] = "";
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out)
        config_print(snapshot, NULL, out);
    if (out && fclose(out) == 0)
        chain_hash(text, length, hash);
    audit_record_text(record, name, *hash ? hash : NULL);
    free(text);
}

void reload_record(struct plane *plane, const char *who, const struct snapshot *before,
                   const struct snapshot *after, const char *problem)
{
    if (!audit_is_on(plane_audit(plane)))
        return;
    struct audit_record *record = audit_record_new("configuration");
    audit_record_text(record, "who", who);
    audit_record_text(record, "result", after ? "loaded" : "refused");
    if (before)
        put_hash(record, "before", before);
    if (after)
        put_hash(record, "after", after);
    if (!after)
        audit_record_text(record, "message", problem);
    audit_write(plane_audit(plane), record);
}

/* Whoever takes the audit log away stands in it last. */
static void record_end(struct plane *plane, const char *who, const struct snapshot *before,
                       const struct snapshot *after)
{
    const char *next = snapshot_globals(after)->audit_log;
    if (!audit_is_on(plane_audit(plane)) || text_equal(snapshot_globals(before)->audit_log, next))
        return;
    struct audit_record *record = audit_record_new("configuration");
    audit_record_text(record, "who", who);
    audit_record_text(record, "result", "ends this audit log");
    audit_record_text(record, "file_after", next);
    put_hash(record, "after", after);
    audit_write(plane_audit(plane), record);
}

bool reload_apply(struct plane *plane, struct admin *admin, struct snapshot *snapshot,
                  const struct reload_log *log, const char *who, char **problem)
{
    char text[512] = "";
    struct snapshot *before = snapshot_ref(plane_snapshot(plane));
    warn_of_restart(before, snapshot);
    record_end(plane, who, before, snapshot);
    bool applied = plane_reload(plane, snapshot, text, sizeof text);
    reload_record(plane, who, before, applied ? snapshot : NULL, text);
    snapshot_unref(before);
    if (!applied) {
        log_error("the configuration cannot be put into force, the old one stays: %s", text);
        *problem = text_copy(text);
        return false;
    }
    if (!reload_open_log(snapshot, log))
        log_error("the log file cannot be opened, the old one stays in use: %s", strerror(errno));
    admin_reloaded(admin);
    return true;
}

bool reload_file(struct plane *plane, struct admin *admin, const char *file,
                 const struct reload_log *log, const char *who, char **problem)
{
    const char *conffile = snapshot_globals(plane_snapshot(plane))->conffile;
    struct snapshot *snapshot = reload_load(conffile ? conffile : file, true, false, problem);
    if (!snapshot) {
        log_error("the configuration has mistakes, the old one stays in force");
        reload_record(plane, who, plane_snapshot(plane), NULL, problem ? *problem : NULL);
        return false;
    }
    bool applied = reload_apply(plane, admin, snapshot, log, who, problem);
    if (applied)
        log_log("the configuration has been read again");
    snapshot_unref(snapshot);
    return applied;
}
