/*
 * show_tls: the certificates in force (SHOW TLS), and the daily look at those that expire.
 *
 * What the snapshot was loaded with is what connections use; a file that was replaced since counts
 * after the next RELOAD. Control thread.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/conf/certificate.h"

#define DAY_US (86400 * CLOCK_SECOND)

static int64_t wall_s(void)
{
    return (int64_t)(clock_wall_us() / CLOCK_SECOND);
}

void command_show_tls(struct admin *admin, struct console_job *job)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    struct result *result = &job->result;
    int64_t now_s = wall_s();
    for (size_t i = 0; i < snapshot_certificate_count(snapshot); i++) {
        const struct certificate *certificate = snapshot_certificate(snapshot, i);
        char when[32];
        certificate_time(certificate->not_after_s, when, sizeof when);
        result_begin(result);
        result_text(result, certificate->subject);
        result_text(result, certificate->names);
        result_text(result, certificate->issuer);
        result_text(result, when);
        result_int(result, certificate_days_left(certificate, now_s));
        result_text(result, certificate->used_by);
        result_yes(result, certificate->authority);
        result_text(result, certificate->file);
        result_end(result);
    }
    console_done(job);
}

static void on_day(struct loop *loop, struct timer *timer)
{
    struct admin *admin = list_entry(timer, struct admin, certificates);
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    int64_t now_s = wall_s();
    for (size_t i = 0; i < snapshot_certificate_count(snapshot); i++) {
        char *text = certificate_warning(snapshot_certificate(snapshot, i), now_s);
        if (text)
            log_warning("%s", text);
        free(text);
    }
    timer_set(loop, timer, loop_now_us(loop) + DAY_US);
}

void certificates_watch(struct admin *admin)
{
    struct loop *loop = plane_control(admin->plane);
    admin->certificates.fire = on_day;
    /* The load has just said what expires. */
    timer_set(loop, &admin->certificates, loop_now_us(loop) + DAY_US);
}
