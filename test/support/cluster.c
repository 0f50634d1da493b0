/*
 * cluster: initdb once, then copies.
 *
 * initdb takes about a second, unpacking its result a tenth of that. So the first program that
 * needs it packs a fresh cluster into a tar file, in PGSTAGE_TEST_CACHE when that is set (the
 * file's name says for which PostgreSQL and which contents it was made) and else in the program's
 * folder; every cluster is unpacked from it. The postmaster is our own child and dies with us.
 */
#include "cluster.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "program.h"
#include "until.h"

static const char CONTENTS[] = "CREATE ROLE app LOGIN;\n"
                               "CREATE ROLE other LOGIN;\n"
                               "CREATE ROLE crowd LOGIN;\n"
                               "CREATE ROLE throng LOGIN;\n"
                               "CREATE ROLE user_scram LOGIN PASSWORD 'secret';\n"
                               "CREATE ROLE user_plain LOGIN PASSWORD 'secret';\n"
                               "SET password_encryption = 'md5';\n"
                               "CREATE ROLE user_md5 LOGIN PASSWORD 'secret';\n"
                               "CREATE DATABASE app OWNER app;\n"
                               "CREATE DATABASE db2 OWNER app;\n";

static const char HBA[] = "local all all trust\n"
                          "host all user_md5 127.0.0.1/32 md5\n"
                          "host all user_scram 127.0.0.1/32 scram-sha-256\n"
                          "host all user_plain 127.0.0.1/32 password\n"
                          "host all all 127.0.0.1/32 trust\n"
                          "host replication all 127.0.0.1/32 trust\n";

static const char SETTINGS[] = "max_connections = 200\n"
                               "superuser_reserved_connections = 10\n"
                               "shared_buffers = 16MB\n"
                               "fsync = off\n"
                               "full_page_writes = off\n"
                               "autovacuum = off\n"
                               "jit = off\n"
                               "log_line_prefix = '%m [%p] %u@%d '\n"
                               "unix_socket_permissions = 0777\n"
                               "timezone = 'UTC'\n"
                               "ssl = on\n";

static const char PORT_VARIABLE[] = "PGSTAGE_TEST_CLUSTER_PORT";
static pid_t shared_pid; /* in the runner only */

/* FNV-1a: the template's name changes with its contents. */
static unsigned contents_hash(void)
{
    const char *text = text_of("%s %s", program_postgres_folder(), CONTENTS);
    unsigned hash = 2166136261u;

    while (*text)
        hash = (hash ^ (unsigned char)*text++) * 16777619u;
    return hash;
}

static void run(const char *what, bool keep_user, char *const *arguments)
{
    struct process_options options = {.keep_user = keep_user};
    char *output;

    if (process_run(arguments, &options, &output) != 0)
        support_fail("%s: %s", what, output);
    free(output);
}

static void template_make(const char *file, const char *name)
{
    const char *postgres = program_postgres_folder();
    char *folder = text_of("%s/%s-%d", program_folder(), name, (int)getpid());
    char *sql = text_of("%s.sql", folder);
    char *fresh = text_of("%s.%d", file, (int)getpid());
    char *initdb[] = {text_of("%s/initdb", postgres),
                      "-D",
                      folder,
                      "-U",
                      "postgres",
                      "-A",
                      "trust",
                      "-E",
                      "UTF8",
                      "--locale=C",
                      "--no-sync",
                      "--wal-segsize=1",
                      NULL};
    char *fill[] = {"sh", "-c",
                    text_of("%s/postgres --single -F -D %s postgres <%s", postgres, folder, sql),
                    NULL};
    char *pack[] = {"tar", "-C", folder, "-cf", fresh, ".", NULL};

    folder_make(folder);
    run("initdb", false, initdb);
    file_write(sql, 0644, CONTENTS);
    run("postgres --single", false, fill);
    run("tar", true, pack);
    if (rename(fresh, file))
        support_fail("rename %s: %m", file);
}

/* `name`: the template has a system identifier of its own. */
static const char *template_file(const char *name)
{
    const char *cache = getenv("PGSTAGE_TEST_CACHE");
    char *file = text_of("%s/%s-%08x.tar", cache ? cache : program_folder(), name, contents_hash());

    if (access(file, R_OK))
        template_make(file, name);
    return file;
}

static PGconn *connect_once(const struct cluster *cluster, const char *database)
{
    return PQconnectdb(text_of("host=%s port=%d user=postgres dbname=%s connect_timeout=50 "
                               "sslmode=disable gssencmode=disable",
                               cluster->socket_folder, cluster->port, database));
}

static bool answers(const struct cluster *cluster)
{
    PGconn *conn = connect_once(cluster, "postgres");
    bool ok = PQstatus(conn) == CONNECTION_OK;

    PQfinish(conn);
    return ok;
}

static void postmaster_start(struct cluster *cluster)
{
    char *log = text_of("%s/postgres.log", cluster->folder);
    char *arguments[] = {text_of("%s/postgres", program_postgres_folder()), "-D",
                         text_of("%s/data", cluster->folder), NULL};
    /* libpq in a WAL receiver must not look for certificates in the home of another user */
    char *environment[] = {"HOME=/nonexistent", NULL};
    struct process_options options = {.log = log,
                                      .environment = environment,
                                      .folder = cluster->folder,
                                      .network = cluster->network,
                                      .death_signal = SIGQUIT};

    cluster->pid = process_start(arguments, &options);
    if (!until(answers(cluster) || !process_is_alive(cluster->pid), PATIENCE_MS) ||
        !process_is_alive(cluster->pid))
        support_fail("PostgreSQL did not start:\n%s", file_text(log));
}

static char *socket_folder(int port)
{
    return text_of("%s/s%d", program_folder(), port);
}

/* What is the cluster's own, in pg_hba.conf and at the end of postgresql.auto.conf, where the last
 * word counts: a base backup brings its primary's port and folders along. */
static void cluster_configure(struct cluster *cluster, const struct cluster_options *options)
{
    char *data = text_of("%s/data", cluster->folder);
    char *automatic = text_of("%s/postgresql.auto.conf", data);
    const struct pki_certificate *certificate = options->certificate;
    const char *ca_file = options->ca_file ? options->ca_file : pki_shared_ca()->certificate;

    if (!certificate)
        certificate = pki_shared_server();
    file_write(text_of("%s/pg_hba.conf", data), 0600, options->hba ? options->hba : HBA);
    /* beside postgresql.conf, in which initdb has noted what works on this machine */
    file_write(automatic, 0600,
               text_of("%s\n%slisten_addresses = '%s'\nport = %d\nunix_socket_directories = '%s'\n"
                       "ssl_cert_file = '%s'\nssl_key_file = '%s'\nssl_ca_file = '%s'\n%s\n",
                       file_text(automatic), SETTINGS, cluster->address, cluster->port,
                       cluster->socket_folder, certificate->certificate, certificate->key, ca_file,
                       options->settings ? options->settings : ""));
}

/* A folder, a port, nothing in it yet. */
static struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);

    if (!cluster)
        abort();
    cluster->folder = text_of("%s/%s", test_folder(), options->name ? options->name : "cluster");
    cluster->port = options->port ? options->port : port_take();
    cluster->address = options->address ? options->address : "127.0.0.1";
    cluster->network = options->network;
    return cluster;
}

/* Gives the place of its data, which is not made. */
static char *cluster_make_folders(struct cluster *cluster)
{
    cluster->socket_folder = socket_folder(cluster->port);
    folder_make(cluster->folder);
    folder_make(cluster->socket_folder);
    return text_of("%s/data", cluster->folder);
}

/* Unpacks the template and configures it. */
static void cluster_make(struct cluster *cluster, const struct cluster_options *options)
{
    char *data = cluster_make_folders(cluster);
    const char *from = template_file(options->stranger ? "stranger" : "cluster");
    char *unpack[] = {"tar", "-C", data, "-xpf", text_of("%s", from), NULL};

    folder_make(data);
    run("tar", true, unpack);
    cluster_configure(cluster, options);
    if (options->follows)
        cluster_follow(cluster, options->follows);
}

void cluster_set(const struct cluster *cluster, const char *settings)
{
    const char *file = text_of("%s/data/postgresql.auto.conf", cluster->folder);

    file_write(file, 0600, text_of("%s%s\n", file_text(file), settings));
}

void cluster_follow(const struct cluster *cluster, const char *primary_conninfo)
{
    const char *signal_file = text_of("%s/data/standby.signal", cluster->folder);

    if (primary_conninfo) {
        file_write(signal_file, 0600, "");
        cluster_set(cluster, text_of("primary_conninfo = '%s'", primary_conninfo));
    } else {
        unlink(signal_file);
    }
}

char *cluster_tool(const char *program, char *const *arguments)
{
    char *all[24] = {text_of("%s/%s", program_postgres_folder(), program)};
    char *output;
    int status;

    for (int i = 0; arguments[i] && i < 22; i++)
        all[i + 1] = arguments[i];
    status = process_run(all, NULL, &output);
    if (status != 0)
        support_fail("%s ended with status %d: %s", program, status, output);
    return output;
}

void cluster_promote(const struct cluster *cluster)
{
    char *arguments[] = {"promote", "-D", text_of("%s/data", cluster->folder), "-t", "60", NULL};

    free(cluster_tool("pg_ctl", arguments));
}

static void end_at_cleanup(void *cluster)
{
    cluster_end(cluster, CLUSTER_IMMEDIATE);
}

static const struct cluster_options no_options;

struct cluster *cluster_start(const struct cluster_options *options)
{
    struct cluster *cluster = cluster_new(options ? options : &no_options);

    cluster_make(cluster, options ? options : &no_options);
    test_cleanup(end_at_cleanup, cluster);
    postmaster_start(cluster);
    return cluster;
}

struct cluster *cluster_standby(const struct cluster *primary,
                                const struct cluster_options *options)
{
    struct cluster_options own = options ? *options : no_options;
    struct cluster *standby;
    char *data;

    if (!own.name)
        own.name = "standby";
    standby = cluster_new(&own);
    data = cluster_make_folders(standby);
    char *backup[] = {text_of("%s/pg_basebackup", program_postgres_folder()),
                      "-D",
                      data,
                      "-h",
                      "127.0.0.1",
                      "-p",
                      text_of("%d", primary->port),
                      "-U",
                      "postgres",
                      "-R",
                      "--checkpoint=fast",
                      "--no-sync",
                      NULL};
    run("pg_basebackup", false, backup);
    cluster_configure(standby, &own);
    test_cleanup(end_at_cleanup, standby);
    postmaster_start(standby);
    if (!until(cluster_number(standby, "SELECT count(*) FROM pg_stat_wal_receiver "
                                       "WHERE status = 'streaming'") == 1,
               PATIENCE_MS))
        support_fail("the standby does not stream:\n%s",
                     file_text(text_of("%s/postgres.log", standby->folder)));
    return standby;
}

/* Backends that outlived their postmaster are no children of ours: a pid counts only while it still
 * runs this cluster's data folder. */
static bool is_orphan(const struct cluster *cluster, pid_t pid)
{
    char place[4096];
    ssize_t length = readlink(text_of("/proc/%d/cwd", (int)pid), place, sizeof place - 1);

    if (length < 0)
        return false;
    place[length] = 0;
    return strcmp(place, text_of("%s/data", cluster->folder)) == 0;
}

static void orphans_kill(struct cluster *cluster)
{
    for (int i = 0; i < cluster->orphan_count; i++) {
        pid_t pid = cluster->orphans[i];

        if (is_orphan(cluster, pid))
            kill(pid, SIGKILL);
        if (!until(!is_orphan(cluster, pid), PATIENCE_MS))
            support_fail("a backend of a dead postmaster does not end");
    }
    free(cluster->orphans);
    cluster->orphans = NULL;
    cluster->orphan_count = 0;
}

void cluster_again(struct cluster *cluster)
{
    orphans_kill(cluster);
    postmaster_start(cluster);
}

static char *children_text(pid_t postmaster)
{
    return file_text(text_of("/proc/%d/task/%d/children", (int)postmaster, (int)postmaster));
}

/* Children of the postmaster: it is their parent, so /proc tells them. */
static void signal_children(pid_t postmaster, int signal_number)
{
    char *text = children_text(postmaster);
    char *rest = NULL;
    const char *word;

    for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        kill((pid_t)atoi(word), signal_number);
    free(text);
}

/* A signal takes its time: only a process that has stopped starts no more children. */
static bool is_stopped(pid_t pid)
{
    char *text = file_text(text_of("/proc/%d/stat", (int)pid));
    const char *name_end = strrchr(text, ')');
    bool stopped = name_end && strlen(name_end) > 2 && name_end[2] == 'T';

    free(text);
    return stopped;
}

void cluster_freeze(struct cluster *cluster, bool frozen)
{
    /* the postmaster first when stopping, so that it does not react to its children, and has all
     * those that it will have */
    if (frozen) {
        kill(cluster->pid, SIGSTOP);
        (void)until(is_stopped(cluster->pid), PATIENCE_MS);
    }
    signal_children(cluster->pid, frozen ? SIGSTOP : SIGCONT);
    if (!frozen)
        kill(cluster->pid, SIGCONT);
}

static void orphans_note(struct cluster *cluster)
{
    char *text = children_text(cluster->pid);
    char *rest = NULL;
    const char *word;

    for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        cluster->orphans = realloc(cluster->orphans,
                                   (size_t)(cluster->orphan_count + 1) * sizeof *cluster->orphans);
        if (!cluster->orphans)
            abort();
        cluster->orphans[cluster->orphan_count++] = (pid_t)atoi(word);
    }
    free(text);
}

void cluster_end(struct cluster *cluster, enum cluster_end how)
{
    static const int signals[] = {SIGINT, SIGQUIT, SIGKILL, SIGKILL};

    if (how != CLUSTER_KILL_POSTMASTER)
        orphans_kill(cluster);
    if (cluster->pid == 0)
        return;
    if (how == CLUSTER_KILL_POSTMASTER)
        orphans_note(cluster);
    if (how == CLUSTER_KILL) {
        kill(cluster->pid, SIGSTOP);
        (void)until(is_stopped(cluster->pid), PATIENCE_MS);
        orphans_note(cluster);
        signal_children(cluster->pid, SIGKILL);
    }
    kill(cluster->pid, signals[how]);
    kill(cluster->pid, SIGCONT);
    if (process_wait(cluster->pid, PATIENCE_MS) < 0) {
        kill(cluster->pid, SIGKILL);
        process_wait(cluster->pid, PATIENCE_MS);
    }
    if (how == CLUSTER_KILL)
        orphans_kill(cluster); /* they hold the data folder until they have gone */
    if (how == CLUSTER_KILL || how == CLUSTER_KILL_POSTMASTER)
        unlink(text_of("%s/data/postmaster.pid", cluster->folder));
    cluster->pid = 0;
}

const char *cluster_route(const struct cluster *cluster)
{
    return text_of("host=%s port=%d", cluster->address, cluster->port);
}

PGconn *cluster_connect(const struct cluster *cluster, const char *database)
{
    PGconn *conn = connect_once(cluster, database);

    if (PQstatus(conn) != CONNECTION_OK)
        support_fail("cannot reach PostgreSQL directly: %s", PQerrorMessage(conn));
    return conn;
}

char *cluster_value(const struct cluster *cluster, const char *sql)
{
    PGconn *conn = cluster_connect(cluster, "app");
    PGresult *result = PQexec(conn, sql);
    char *value;

    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        support_fail("%s: %s", sql, PQerrorMessage(conn));
    value = text_of("%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(conn);
    return value;
}

long cluster_number(const struct cluster *cluster, const char *sql)
{
    char *value = cluster_value(cluster, sql);
    long number = atol(value);

    free(value);
    return number;
}

long cluster_running(const struct cluster *cluster, const char *sql)
{
    return cluster_number(cluster, text_of("SELECT count(*) FROM pg_stat_activity WHERE query = "
                                           "$sql$%s$sql$ AND state = 'active'",
                                           sql));
}

/* ---- the shared one ---- */

struct cluster *cluster_shared(void)
{
    static struct cluster shared;

    if (!shared.folder) {
        shared.folder = text_of("%s/shared", program_folder());
        shared.address = "127.0.0.1";
        shared.port = atoi(getenv(PORT_VARIABLE) ? getenv(PORT_VARIABLE) : "0");
        shared.socket_folder = socket_folder(shared.port);
    }
    return &shared;
}

void cluster_shared_start(void)
{
    struct cluster *shared = cluster_shared();
    struct cluster_options options = {0};

    shared->port = port_take();
    setenv(PORT_VARIABLE, text_of("%d", shared->port), 1);
    cluster_make(shared, &options);
    postmaster_start(shared);
    shared_pid = shared->pid;
}

void cluster_shared_stop(void)
{
    struct cluster *shared = cluster_shared();

    shared->pid = shared_pid;
    cluster_end(shared, CLUSTER_IMMEDIATE);
}
