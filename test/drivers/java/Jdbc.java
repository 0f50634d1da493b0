// JDBC (pgjdbc) with its defaults: a statement is prepared on the server from its fifth execution on
// (prepareThreshold), and kept under its name.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.net.Socket;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Jdbc {
    static final boolean SESSION = System.getenv("PGSTAGE_TEST_MODE").equals("session");
    /** Who take all servers but one, so that a client has to go to another server. */
    static final int OTHERS = SESSION ? 0 : 4;
    static final int CLIENTS = 20;
    static final int TRANSACTIONS = 100;

    interface Case {
        void run() throws Exception;
    }

    static Connection connect(String... settings) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("sslmode", "disable");
        for (int i = 0; i < settings.length; i += 2)
            properties.setProperty(settings[i], settings[i + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }

    static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    /** The first column of the first row. */
    static Object value(Connection connection, String sql, Object... arguments) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < arguments.length; i++)
                statement.setObject(i + 1, arguments[i]);
            try (ResultSet result = statement.executeQuery()) {
                result.next();
                return result.getObject(1);
            }
        }
    }

    static void equal(Object seen, Object expected) {
        if (!Objects.equals(seen, expected))
            throw new AssertionError(seen + " instead of " + expected);
    }

    static void refused(String state, Case work) throws Exception {
        try {
            work.run();
        } catch (SQLException error) {
            equal(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error where " + state + " is due");
    }

    static void restartServer() throws Exception {
        try (Socket control = new Socket("127.0.0.1", Integer.parseInt(System.getenv("PGSTAGE_TEST_CONTROL")))) {
            control.getOutputStream().write("restart\n".getBytes());
            equal(new BufferedReader(new InputStreamReader(control.getInputStream())).readLine(), "done");
        }
    }

    static void connects() throws Exception {
        try (Connection connection = connect()) {
            equal(connection.isValid(10), true);
            equal(connection.getMetaData().getUserName(), "app");
        }
    }

    static void simpleQuery() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            ResultSet result = statement.executeQuery("SELECT 1, 'two'");
            result.next();
            equal(result.getInt(1) + result.getString(2), "1two");
            equal(statement.execute("SELECT 1; SELECT 2"), true);
            equal(statement.getMoreResults(), true);
        }
        // the mode that poolers made people choose, with the parameters in the text
        try (Connection connection = connect("preferQueryMode", "simple")) {
            equal(value(connection, "SELECT ?::int + 1", 4), 5);
        }
    }

    static void parametrisedQuery() throws Exception {
        String text = "x".repeat(300000);
        try (Connection connection = connect();
             PreparedStatement statement = connection.prepareStatement("SELECT ?::int, ?, ?::bytea, ?::int, ?, ?")) {
            statement.setInt(1, 7);
            statement.setString(2, "täxt");
            statement.setBytes(3, new byte[] {0, 1});
            statement.setNull(4, java.sql.Types.INTEGER);
            statement.setString(5, text);
            statement.setArray(6, connection.createArrayOf("int4", new Integer[] {1, 2}));
            ResultSet result = statement.executeQuery();
            result.next();
            equal(result.getInt(1), 7);
            equal(result.getString(2), "täxt");
            equal(Arrays.toString(result.getBytes(3)), "[0, 1]");
            equal(result.getObject(4), null);
            equal(result.getString(5), text);
            equal(result.getArray(6).toString(), "{1,2}");
        }
    }

    static void preparedOverTransactions() throws Exception {
        Connection connection = connect();
        List<Connection> others = new ArrayList<>();
        Set<Object> servers = new HashSet<>();
        for (int i = 0; i < OTHERS; i++)
            others.add(connect());
        connection.setAutoCommit(false);
        try (PreparedStatement plus = connection.prepareStatement("SELECT ? + 1, pg_backend_pid()")) {
            for (int n = 0; n < 40; n++) {
                // the others take all servers, then one gives up its own: only that is free
                for (Connection other : others) {
                    other.setAutoCommit(false);
                    value(other, "SELECT 1");
                }
                if (OTHERS > 0)
                    others.get(n % OTHERS).commit();
                plus.setInt(1, n);
                ResultSet result = plus.executeQuery();
                result.next();
                equal(result.getInt(1), n + 1);
                servers.add(result.getInt(2));
                connection.commit();
                for (Connection other : others)
                    other.commit();
            }
            equal(plus.unwrap(org.postgresql.PGStatement.class).isUseServerPrepare(), true);
        }
        equal(servers.size(), SESSION ? 1 : OTHERS);
        connection.close();
        for (Connection other : others)
            other.close();
    }

    static void preparedOverRestart() throws Exception {
        Connection connection = connect();
        PreparedStatement twice = connection.prepareStatement("SELECT ? * 2");
        for (int round = 0; round < 2; round++) {
            for (int n = 0; n < 10; n++) {
                twice.setInt(1, n);
                ResultSet result = twice.executeQuery();
                result.next();
                equal(result.getInt(1), n * 2);
            }
            if (round == 0)
                restartServer();
            if (round == 0 && SESSION) {
                try {
                    twice.executeQuery();
                    throw new AssertionError("a session outlived its server");
                } catch (SQLException error) {
                    connection = connect();
                    twice = connection.prepareStatement("SELECT ? * 2");
                }
            }
        }
        connection.close();
    }

    static void commitAndRollback() throws Exception {
        try (Connection connection = connect()) {
            execute(connection, "DELETE FROM item");
            connection.setAutoCommit(false);
            execute(connection, "INSERT INTO item VALUES (1, 'kept')");
            connection.commit();
            execute(connection, "INSERT INTO item VALUES (2, 'lost')");
            connection.rollback();
            Savepoint here = connection.setSavepoint();
            execute(connection, "INSERT INTO item VALUES (3, 'lost')");
            connection.rollback(here);
            execute(connection, "INSERT INTO item VALUES (4, 'kept')");
            connection.commit();
            equal(value(connection, "SELECT string_agg(id::text, ',' ORDER BY id) FROM item"), "1,4");
            connection.commit();
            connection.setReadOnly(true);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            refused("25006", () -> execute(connection, "INSERT INTO item VALUES (5, 'refused')"));
            connection.rollback();
            equal(value(connection, "SHOW transaction_isolation"), "serializable");
        }
        try (Connection connection = connect()) {
            equal(value(connection, "SHOW transaction_isolation"), "read committed");
        }
    }

    static void errorAndRecovery() throws Exception {
        try (Connection connection = connect(); PreparedStatement divide = connection.prepareStatement("SELECT 1 / ?")) {
            for (int n = 0; n < 8; n++) {
                divide.setInt(1, 0);
                refused("22012", divide::executeQuery);
            }
            connection.setAutoCommit(false);
            refused("42703", () -> value(connection, "SELECT nonsense"));
            refused("25P02", () -> value(connection, "SELECT 1"));
            connection.rollback();
            divide.setInt(1, 1);
            equal(divide.executeQuery().next(), true);
        }
    }

    static void copyInAndOut() throws Exception {
        StringBuilder text = new StringBuilder();
        for (int n = 0; n < 5000; n++)
            text.append(n).append("\tname ").append(n).append('\n');
        try (Connection connection = connect()) {
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringWriter out = new StringWriter();
            equal(copy.copyIn("COPY copied FROM STDIN", new StringReader(text.toString())), 5000L);
            copy.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out);
            equal(out.toString(), text.toString());
            refused("22P02", () -> copy.copyIn("COPY copied FROM STDIN", new StringReader("no number\tx\n")));
            equal(value(connection, "SELECT count(*) FROM copied"), 5000L);
        }
    }

    static void cancels() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try (Connection other = connect()) {
                    while (value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = ?",
                                 "SELECT pg_sleep(50)").equals(0L))
                        Thread.sleep(5);
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            refused("57014", () -> statement.executeQuery("SELECT pg_sleep(50)"));
            canceller.join();
            // the driver's own deadline is a cancel request, too
            statement.setQueryTimeout(1);
            refused("57014", () -> statement.executeQuery("SELECT pg_sleep(51)"));
            equal(value(connection, "SELECT 1"), 1);
        }
    }

    static void setLocal() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            execute(connection, "SET LOCAL work_mem = '7MB'");
            equal(value(connection, "SHOW work_mem"), "7MB");
            connection.commit();
            equal(value(connection, "SHOW work_mem"), "4MB");
        }
    }

    static void setReported() throws Exception {
        try (Connection one = connect(); Connection two = connect()) {
            execute(one, "SET TimeZone = 'Asia/Tokyo'");
            execute(two, "SET TimeZone = 'America/Lima'");
            two.setClientInfo("ApplicationName", "the second");
            for (int n = 0; n < 10; n++) {
                equal(value(one, "SHOW TimeZone"), "Asia/Tokyo");
                equal(value(two, "SHOW TimeZone"), "America/Lima");
                equal(value(two, "SHOW application_name"), "the second");
            }
            equal(one.unwrap(PGConnection.class).getParameterStatus("TimeZone"), "Asia/Tokyo");
        }
    }

    static void setOther() throws Exception {
        try (Connection one = connect(); Connection two = connect()) {
            one.setSchema("tenant_a");
            execute(one, "SET app.tenant = 'a'");
            value(two, "SELECT set_config('search_path', 'tenant_b', false)");
            for (int n = 0; n < 10; n++) {
                equal(value(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa");
                equal(value(two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')"), "tenant_b");
            }
        }
    }

    static void startupOptions() throws Exception {
        // the driver itself always asks for extra_float_digits
        try (Connection one = connect("options", "-c statement_timeout=77s", "currentSchema", "tenant_b"); Connection two = connect()) {
            for (int n = 0; n < 10; n++) {
                equal(value(one, "SHOW statement_timeout"), "77s");
                equal(value(one, "SELECT current_schema()"), "tenant_b");
                equal(value(two, "SHOW statement_timeout"), "0");
                equal(value(two, "SHOW extra_float_digits"), "3");
            }
        }
    }

    static void sessionState() throws Exception {
        try (Connection one = connect(); Connection two = connect()) {
            execute(one, "CREATE TEMP TABLE mine AS SELECT 1 AS n");
            equal(value(one, "SELECT pg_try_advisory_lock(?)", 42), true);
            execute(one, "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)");
            for (int n = 0; n < 10; n++) {
                equal(value(one, "SELECT n FROM mine"), 1);
                equal(value(two, "SELECT pg_try_advisory_lock(?)", 42), false);
            }
            equal(value(one, "FETCH ALL FROM held"), 1);
            equal(value(one, "SELECT pg_advisory_unlock(?)", 42), true);
            equal(value(two, "SELECT pg_try_advisory_lock(?)", 42), true);
        }
    }

    static void listenAndNotify() throws Exception {
        try (Connection one = connect(); Connection two = connect()) {
            List<String> seen = new ArrayList<>();
            execute(one, "LISTEN news");
            execute(two, "NOTIFY news, 'first'");
            value(two, "SELECT 1 FROM pg_notify('news', 'second')");
            while (seen.size() < 2) {
                PGNotification[] notifications = one.unwrap(PGConnection.class).getNotifications(30000);
                if (notifications == null)
                    throw new AssertionError("only " + seen);
                for (PGNotification notification : notifications)
                    seen.add(notification.getName() + ":" + notification.getParameter());
            }
            equal(seen, List.of("news:first", "news:second"));
        }
    }

    /** A batch is a pipeline. */
    static void pipeline() throws Exception {
        try (Connection connection = connect()) {
            execute(connection, "DELETE FROM item");
            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
                for (int n = 0; n < 1000; n++) {
                    insert.setInt(1, n);
                    insert.setString(2, "name " + n);
                    insert.addBatch();
                }
                equal(insert.executeBatch().length, 1000);
                connection.commit();
                insert.setInt(1, 1000);
                insert.addBatch();
                insert.setInt(1, 7); // there is one already
                insert.addBatch();
                try {
                    insert.executeBatch();
                    throw new AssertionError("no error");
                } catch (BatchUpdateException error) {
                    equal(error.getNextException().getSQLState(), "23505");
                }
                connection.rollback();
            }
            equal(value(connection, "SELECT count(*) FROM item"), 1000L);
        }
    }

    static void largeObject() throws Exception {
        byte[] data = new byte[200000];
        Arrays.fill(data, (byte) 7);
        try (Connection connection = connect()) {
            connection.setAutoCommit(false); // the calls are FunctionCall messages
            LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long number = manager.createLO();
            LargeObject object = manager.open(number, LargeObjectManager.READWRITE);
            object.write(data);
            object.seek(199999);
            equal(object.read(10).length, 1);
            object.close();
            connection.commit();
            object = manager.open(number, LargeObjectManager.READ);
            equal(Arrays.equals(object.read(300000), data), true);
            object.close();
            manager.delete(number);
            connection.commit();
        }
    }

    static Void work(int number) throws Exception {
        try (Connection connection = connect("ApplicationName", "client " + number)) {
            execute(connection, "SET app.client = '" + number + "'");
            connection.setAutoCommit(false);
            for (int n = 0; n < TRANSACTIONS; n++) {
                try (PreparedStatement insert = connection.prepareStatement("INSERT INTO seen VALUES (?, ?)")) {
                    insert.setInt(1, number);
                    insert.setInt(2, n);
                    insert.executeUpdate();
                }
                equal(value(connection, "SELECT concat_ws(' ', ?, ?, current_setting('application_name'), "
                                + "current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = ?", number, n, number),
                      number + " " + n + " client " + number + " " + number + " " + (n + 1) + " " + n);
                connection.commit();
            }
        }
        return null;
    }

    static void clients() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        List<Callable<Void>> all = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            int number = i;
            all.add(() -> work(number));
        }
        for (Future<Void> one : threads.invokeAll(all, 60, TimeUnit.SECONDS))
            one.get();
        threads.shutdown();
    }

    /** Rows fetched in portions: a portal that is suspended between them. */
    static void fetchSize() throws Exception {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(50);
                ResultSet result = statement.executeQuery("SELECT generate_series(1, 1000)");
                int sum = 0;
                while (result.next())
                    sum += result.getInt(1);
                equal(sum, 500500);
            }
            connection.commit();
        }
    }

    static void preparedAtOnce() throws Exception {
        try (Connection one = connect("prepareThreshold", "1"); Connection two = connect("prepareThreshold", "1")) {
            for (int n = 0; n < 300; n++) { // more than preparedStatementCacheQueries: the oldest are closed
                equal(value(one, "SELECT ?::int + " + n, 1), n + 1);
                equal(value(two, "SELECT ?::int + " + n, 2), n + 2);
            }
        }
    }

    static void schemaChange() throws Exception {
        try (Connection one = connect(); Connection two = connect()) {
            execute(one, "CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)");
            for (int n = 0; n < 10; n++)
                equal(value(two, "SELECT * FROM changing"), 1);
            execute(one, "ALTER TABLE changing ALTER a TYPE text");
            equal(value(two, "SELECT * FROM changing"), "1");
        }
    }

    /** Savepoints that the driver sets by itself, and one INSERT for a whole batch. */
    static void autosave() throws Exception {
        try (Connection connection = connect("autosave", "always", "reWriteBatchedInserts", "true", "prepareThreshold", "1")) {
            execute(connection, "DELETE FROM item");
            connection.setAutoCommit(false);
            for (int round = 0; round < 5; round++) {
                try (PreparedStatement insert = connection.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
                    for (int n = 0; n < 100; n++) {
                        insert.setInt(1, round * 100 + n);
                        insert.setString(2, "x");
                        insert.addBatch();
                    }
                    insert.executeBatch();
                }
                refused("22012", () -> value(connection, "SELECT 1 / ?", 0));
                equal(value(connection, "SELECT count(*) FROM item"), (round + 1) * 100L);
                connection.commit();
            }
        }
    }

    public static void main(String[] arguments) {
        Object[][] cases = {
            {"connect", (Case) Jdbc::connects},
            {"simple query", (Case) Jdbc::simpleQuery},
            {"parametrised query", (Case) Jdbc::parametrisedQuery},
            {"prepared statement over transactions", (Case) Jdbc::preparedOverTransactions},
            {"prepared statement over a server restart", (Case) Jdbc::preparedOverRestart},
            {"commit and rollback", (Case) Jdbc::commitAndRollback},
            {"error and recovery", (Case) Jdbc::errorAndRecovery},
            {"copy in and out", (Case) Jdbc::copyInAndOut},
            {"cancel", (Case) Jdbc::cancels},
            {"set local", (Case) Jdbc::setLocal},
            {"set of a reported parameter", (Case) Jdbc::setReported},
            {"set of another parameter", (Case) Jdbc::setOther},
            {"startup options", (Case) Jdbc::startupOptions},
            {"session state that pins", (Case) Jdbc::sessionState},
            {"listen and notify", (Case) Jdbc::listenAndNotify},
            {"pipeline", (Case) Jdbc::pipeline},
            {"large object", (Case) Jdbc::largeObject},
            {"20 clients keep to themselves", (Case) Jdbc::clients},
            {"fetch size", (Case) Jdbc::fetchSize},
            {"prepared at once", (Case) Jdbc::preparedAtOnce},
            {"autosave", (Case) Jdbc::autosave},
            {"schema change under a prepared statement", (Case) Jdbc::schemaChange},
        };
        int failed = 0;
        for (int i = 0; i < cases.length; i++) {
            try {
                ((Case) cases[i][1]).run();
                System.out.println("ok " + (i + 1) + " - " + cases[i][0]);
            } catch (Throwable error) {
                failed++;
                System.out.println("not ok " + (i + 1) + " - " + cases[i][0]);
                error.printStackTrace(System.out);
            }
        }
        System.exit(failed == 0 ? 0 : 1);
    }
}
