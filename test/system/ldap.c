/*
 * ldap: logins that a real slapd judges, on 127.0.0.1 with its own folder and port.
 */
#include "system.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

SYSTEM_SUITE(ldap);

static const char *const ENTRIES =
    "dn: dc=example,dc=net\nobjectClass: dcObject\nobjectClass: organization\no: Example\n"
    "dc: example\n\n"
    "dn: ou=people,dc=example,dc=net\nobjectClass: organizationalUnit\nou: people\n\n"
    "dn: cn=reader,dc=example,dc=net\nobjectClass: person\ncn: reader\nsn: reader\n"
    "userPassword: readersecret\n\n"
    "dn: uid=alice,ou=people,dc=example,dc=net\nobjectClass: inetOrgPerson\nuid: alice\n"
    "cn: Alice\nsn: Liddell\nmail: alice@example.net\nuserPassword: alicesecret\n\n"
    "dn: uid=bob,ou=people,dc=example,dc=net\nobjectClass: inetOrgPerson\nuid: bob\ncn: Bob\n"
    "sn: Dylan\nmail: twin@example.net\nuserPassword: bobsecret\n\n"
    "dn: uid=carl,ou=people,dc=example,dc=net\nobjectClass: inetOrgPerson\nuid: carl\ncn: Carl\n"
    "sn: Orff\nmail: twin@example.net\nuserPassword: carlsecret\n\n"
    "dn: uid=odd\\2Cname,ou=people,dc=example,dc=net\nobjectClass: inetOrgPerson\n"
    "uid: odd,name\ncn: Odd (Name)\nsn: Odd\nuserPassword: oddsecret\n";

static struct directory {
    int port, tls_port;
    pid_t pid;
    struct pki_certificate *certificate;
} directory;

static void run_tool(char *const *arguments)
{
    char *output = NULL;

    cr_assert_eq(process_run(arguments, NULL, &output), 0, "%s: %s", arguments[0], output);
}

static bool listens(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return open;
}

/* Starts slapd; `more` stands in its configuration. */
static void begin(const char *more)
{
    struct pki_request request = {.file = "slapd",
                                  .common_name = "slapd",
                                  .names = "IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    const char *folder = test_folder();
    char *configuration = text_of("%s/slapd.conf", folder), *entries = text_of("%s/ldif", folder);

    directory.certificate = pki_issue(folder, &request);
    directory.port = port_take();
    directory.tls_port = port_take();
    run_tool((char *[]){"mkdir", text_of("%s/db", folder), NULL});
    file_write(entries, 0644, ENTRIES);
    file_write(configuration, 0644,
               text_of("include /etc/ldap/schema/core.schema\n"
                       "include /etc/ldap/schema/cosine.schema\n"
                       "include /etc/ldap/schema/inetorgperson.schema\n"
                       "modulepath /usr/lib/ldap\nmoduleload back_mdb\n"
                       "pidfile %s/slapd.pid\nargsfile %s/slapd.args\nthreads 2\n"
                       "allow bind_anon_cred bind_anon_dn\n"
                       "TLSCACertificateFile %s\nTLSCertificateFile %s\nTLSCertificateKeyFile %s\n"
                       "%s"
                       "database mdb\nsuffix dc=example,dc=net\ndirectory %s/db\n"
                       "maxsize 10485760\n"
                       "access to attrs=userPassword by anonymous auth by * none\n"
                       "access to * by dn.exact=\"cn=reader,dc=example,dc=net\" read by * none\n",
                       folder, folder, pki_shared_ca()->certificate,
                       directory.certificate->certificate, directory.certificate->key, more,
                       folder));
    run_tool((char *[]){"/usr/sbin/slapadd", "-q", "-f", configuration, "-l", entries, NULL});
    char *arguments[] = {
        "/usr/sbin/slapd",
        "-d",
        "0",
        "-f",
        configuration,
        "-h",
        text_of("ldap://127.0.0.1:%d ldaps://127.0.0.1:%d", directory.port, directory.tls_port),
        NULL};
    const struct process_options options = {.log = text_of("%s/slapd.log", folder)};
    directory.pid = process_start(arguments, &options);
    cr_assert(until(listens(directory.port) && listens(directory.tls_port), PATIENCE_MS));
}

/* Clients come as whoever they are, and are `other` on the server. */
static struct proxy *asking(const char *options, const char *more)
{
    const struct proxy_options with = {
        .environment = (char *[]){
            text_of("LDAPTLS_CACERT=%s", pki_shared_ca()->certificate),
            "LDAPTLS_REQCERT=never", /* which pgstage does not listen to */
            NULL,
        }};

    return proxy_start_with(&with,
                            "auth_type = ldap\nauth_ldap_options = %s\n%s[databases]\n"
                            "app = %s user=other\n",
                            options, more, cluster_route(cluster_shared()));
}

static const char *simple(void)
{
    return text_of("ldapserver=127.0.0.1 ldapport=%d ldapprefix=\"uid=\" "
                   "ldapsuffix=\",ou=people,dc=example,dc=net\"",
                   directory.port);
}

static const char *searching(const char *how)
{
    return text_of("ldapserver=127.0.0.1 ldapport=%d ldapbasedn=\"dc=example,dc=net\" "
                   "ldapbinddn=\"cn=reader,dc=example,dc=net\" ldapbindpasswd=readersecret %s",
                   directory.port, how);
}

#define ALICE "user=alice password=alicesecret"

static void lets_in(struct proxy *proxy, const char *who)
{
    cr_assert_str_eq(client_value(client_open(proxy, who), "SELECT current_user"), "other");
}

static void refuses(struct proxy *proxy, const char *who)
{
    char *text = client_refusal(proxy, who);

    cr_assert_has(text, "28P01");
    cr_assert_has(text, "LDAP authentication failed");
}

SYSTEM_TEST(ldap, a_simple_bind_judges)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    struct proxy *proxy = asking(simple(), "");

    lets_in(proxy, ALICE);
    refuses(proxy, "user=alice password=wrong");
    refuses(proxy, "user=nobody password=alicesecret");
    cr_assert(
        until(proxy_logged(proxy, "uid=alice,ou=people,dc=example,dc=net: Invalid credentials"),
              PATIENCE_MS));
    cr_assert_null(strstr(file_text(proxy->log), "alicesecret"));
    cr_assert_null(strstr(file_text(proxy->log), "wrong,"));
}

SYSTEM_TEST(ldap, search_and_bind_finds_the_user_first)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    struct proxy *proxy = asking(searching(""), "");

    lets_in(proxy, ALICE);
    refuses(proxy, "user=alice password=bobsecret");
    refuses(proxy, "user=nobody password=x");
    proxy_stop(proxy);
    proxy = asking(searching("ldapsearchattribute=mail"), "");
    lets_in(proxy, "user=alice@example.net password=alicesecret");
    /* two of them: nobody */
    refuses(proxy, "user=twin@example.net password=bobsecret");
    proxy_stop(proxy);
    proxy = asking(searching("ldapsearchfilter=\"(|(uid=$username)(mail=$username))\""), "");
    lets_in(proxy, ALICE);
    lets_in(proxy, "user=alice@example.net password=alicesecret");
    proxy_stop(proxy);
    proxy = asking(text_of("ldapurl=\"ldap://127.0.0.1:%d/ou=people,dc=example,dc=net?uid?one\" "
                           "ldapbinddn=\"cn=reader,dc=example,dc=net\" ldapbindpasswd=readersecret",
                           directory.port),
                   "");
    lets_in(proxy, ALICE);
    cr_assert_null(strstr(file_text(proxy->log), "readersecret"));
}

SYSTEM_TEST(ldap, names_are_values_and_nothing_else)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    static const char *const users[] = {
        "*", "al*", "alice)(objectClass=*", "alice)(|(uid=*", "alice\\\\29", "nobody)(uid=alice"};
    struct proxy *proxy = asking(searching(""), "");

    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++)
        refuses(proxy, text_of("user='%s' password=alicesecret", users[i]));
    lets_in(proxy, "user='odd,name' password=oddsecret");
    proxy_stop(proxy);
    proxy = asking(text_of("ldapserver=127.0.0.1 ldapport=%d ldapprefix=\"uid=\" "
                           "ldapsuffix=\",dc=example,dc=net\"",
                           directory.port),
                   "");
    refuses(proxy, "user='alice,ou=people' password=alicesecret");
    refuses(proxy, "user='alice+cn=Alice,ou=people' password=alicesecret");
    proxy_stop(proxy);
    proxy = asking(simple(), "");
    lets_in(proxy, "user='odd,name' password=oddsecret");
}

/* LDAP takes a bind without a password for an anonymous one, and says yes. */
SYSTEM_TEST(ldap, an_empty_password_is_no_password)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    const char *const options[] = {simple(), searching("")};

    for (size_t i = 0; i < 2; i++) {
        struct proxy *proxy = asking(options[i], "");
        struct wire *wire = wire_open(proxy);
        struct bytes packet = startup_packet("user", "alice", "database", "app", NULL);
        struct wire_message message;

        wire_write(wire, packet.data, packet.count);
        cr_assert(wire_read(wire, &message, PATIENCE_MS) && message.type == 'R');
        cr_assert_eq(message.body[3], 3);
        wire_password(wire, "");
        cr_assert_str_eq(wire_error(wire, PATIENCE_MS), "FATAL 28P01 LDAP authentication failed");
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(ldap, tls_is_spoken_and_verified)
{
    SKIP_ON_PGBOUNCER();
    begin("security simple_bind=128\n");
    struct proxy *proxy = asking(text_of("%s ldaptls=1", simple()), "");

    lets_in(proxy, ALICE);
    proxy_stop(proxy);
    proxy = asking(text_of("ldapserver=127.0.0.1 ldapport=%d ldapscheme=ldaps ldapprefix=\"uid=\" "
                           "ldapsuffix=\",ou=people,dc=example,dc=net\"",
                           directory.tls_port),
                   "");
    lets_in(proxy, ALICE);
    proxy_stop(proxy);
    /* in the clear this server says no, which is no word about the user */
    proxy = asking(simple(), "");
    cr_assert_has(client_refusal(proxy, ALICE), "cannot be checked now");
    proxy_stop(proxy);
    /* a certificate that nobody vouches for */
    struct pki_request request = {.file = "stranger", .common_name = "Test CA", .authority = true};
    const struct proxy_options with = {
        .environment = (char *[]){
            text_of("LDAPTLS_CACERT=%s", pki_issue(test_folder(), &request)->certificate),
            "LDAPTLS_REQCERT=never", NULL}};
    for (size_t i = 0; i < 2; i++) {
        proxy = proxy_start_with(
            &with, "auth_type = ldap\nauth_ldap_options = %s %s\n",
            i ? text_of("ldapserver=127.0.0.1 ldapport=%d ldapprefix=uid=", directory.tls_port)
              : simple(),
            i ? "ldapscheme=ldaps" : "ldaptls=1");
        cr_assert_has(client_refusal(proxy, ALICE), "cannot be checked now");
        cr_assert(until(proxy_logged(proxy, "LDAP: "), PATIENCE_MS));
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(ldap, lines_of_hba_files_have_their_own)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    char *hba = text_of("%s/hba", test_folder());

    file_write(hba, 0600,
               text_of("host all bob 127.0.0.1/32 ldap %s\n"
                       "host all all 127.0.0.1/32 ldap %s\nlocal all all trust\n",
                       searching("ldapsearchattribute=uid"), simple()));
    struct proxy *proxy =
        proxy_start("auth_type = hba\nauth_hba_file = %s\n[databases]\napp = %s user=other\n", hba,
                    cluster_route(cluster_shared()));

    lets_in(proxy, ALICE);
    lets_in(proxy, "user=bob password=bobsecret");
    refuses(proxy, "user=bob password=wrong");
}

/* The user's own secret in auth_file is what pgstage shows the server. */
SYSTEM_TEST(ldap, a_line_in_auth_file_serves_the_server)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    PGconn *conn = cluster_connect(cluster_shared(), "app");

    client_do(conn, "CREATE ROLE alice LOGIN");
    PQfinish(conn);
    struct proxy *proxy =
        proxy_start("auth_type = ldap\nauth_ldap_options = %s\n[databases]\napp = %s\n", simple(),
                    cluster_route(cluster_shared()));

    cr_assert_str_eq(client_value(client_open(proxy, ALICE), "SELECT current_user"), "alice");
    conn = cluster_connect(cluster_shared(), "app");
    proxy_stop(proxy);
    client_do(conn, "DROP ROLE alice");
    PQfinish(conn);
}

SYSTEM_TEST(ldap, a_directory_that_is_down_is_told_as_that)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    struct proxy *proxy =
        asking(simple(), "login_failures_limit = 2\nlogin_failures_loopback = 1\n");

    kill(directory.pid, SIGKILL);
    cr_assert_neq(process_wait(directory.pid, PATIENCE_MS), -1);
    /* as often as it would take to have the address refused */
    for (int i = 0; i < 5; i++) {
        char *text = client_refusal(proxy, ALICE);

        cr_assert_has(text, "57P03");
        cr_assert_has(text, "cannot be checked now");
    }
    cr_assert(until(proxy_logged(proxy, "Can't contact LDAP server"), PATIENCE_MS));
}

static void never_answer(struct wire *wire, struct fake *fake)
{
    (void)fake;
    fake_hang(wire);
}

SYSTEM_TEST(ldap, a_directory_that_hangs_holds_up_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(never_answer, NULL);
    char *hba = text_of("%s/hba", test_folder());

    file_write(hba, 0600,
               text_of("host all alice 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport=%d "
                       "ldapprefix=uid=\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n",
                       fake->port));
    struct proxy *proxy =
        proxy_start("auth_type = hba\nauth_hba_file = %s\nauth_helper_threads = 1\n"
                    "auth_helper_queue = 1\nauth_helper_timeout = 12\n",
                    hba);
    char *text;

    for (int i = 0; i < 3; i++) {
        struct wire *wire = wire_open(proxy);
        struct bytes packet = startup_packet("user", "alice", "database", "app", NULL);
        struct wire_message message;

        wire_write(wire, packet.data, packet.count);
        cr_assert(wire_read(wire, &message, PATIENCE_MS) && message.type == 'R');
        wire_password(wire, "alicesecret");
        if (i == 0)
            cr_assert(until(atomic_load(&fake->accepted) == 1, PATIENCE_MS));
        if (i == 1) /* it waits behind the first */
            client_do(client_open(proxy, "user=app"), "SELECT 1");
        if (i == 2)
            cr_assert_str_eq(wire_error(wire, PATIENCE_MS), "FATAL 53300 too many logins at once");
    }
    /* … and when its time is over there is room again */
    cr_assert(until((text = client_refusal(proxy, "user=alice password=x"),
                     strstr(text, "57P03") != NULL),
                    PATIENCE_MS),
              "%s", text);
    client_do(client_open(proxy, "user=app"), "SELECT 1");
}

/* auth_type = ldap says nothing of TLS: the password comes over it, or over no wire. */
SYSTEM_TEST(ldap, passwords_do_not_come_over_a_wire_in_the_clear)
{
    SKIP_ON_PGBOUNCER();
    begin("");
    int port = port_take();
    struct proxy *proxy = asking(simple(), text_of("[listener behind]\nlisten_addr = 127.0.0.1\n"
                                                   "listen_port = %d\nunix_socket_dir =\n"
                                                   "proxy_protocol = yes\n"
                                                   "proxy_protocol_from = 127.0.0.1\n",
                                                   port));
    struct wire *wire = wire_open_port(port);
    struct bytes packet = startup_packet("user", "alice", "database", "app", NULL);

    lets_in(proxy, ALICE);
    wire_write(wire, "PROXY TCP4 10.1.2.3 10.1.2.4 4711 5432\r\n", 40);
    wire_write(wire, packet.data, packet.count);
    cr_assert_str_eq(wire_error(wire, PATIENCE_MS), "FATAL 28000 SSL required");
}
