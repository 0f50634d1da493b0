<?php
// PDO_pgsql with its defaults: prepare() makes a named statement on the server, and SQL's DEALLOCATE ends it.
// Other settings that poolers made people choose: PDO::ATTR_EMULATE_PREPARES, PDO::PGSQL_ATTR_DISABLE_PREPARES.
declare(strict_types=1);

define('SESSION', getenv('PGSTAGE_TEST_MODE') === 'session');
const OTHERS = SESSION ? 0 : 4;  // who take all servers but one
const CLIENTS = 20;
const TRANSACTIONS = 100;

/** Thrown by a case for which the driver has no means. */
class Skip extends Exception {}

function connect(string $more = '', array $attributes = []): PDO
{
    return new PDO('pgsql:host=127.0.0.1;port=' . getenv('PGPORT') . ";dbname=app;user=app;sslmode=disable;$more",
        null, null, $attributes + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function value(PDO $db, string $sql, array $arguments = []): mixed
{
    $statement = $db->prepare($sql);
    $statement->execute($arguments);
    return $statement->fetchColumn();
}

function equal(mixed $seen, mixed $expected): void
{
    if ($seen !== $expected)
        throw new Exception(var_export($seen, true) . ' instead of ' . var_export($expected, true));
}

function refused(string $state, callable $work): void
{
    try {
        $work();
    } catch (PDOException $error) {
        equal($error->getCode(), $state);
        return;
    }
    throw new Exception("no error where $state is due");
}

function restart_server(): void
{
    $control = stream_socket_client('tcp://127.0.0.1:' . getenv('PGSTAGE_TEST_CONTROL'));
    stream_set_timeout($control, 60);
    fwrite($control, "restart\n");
    equal(fgets($control), "done\n");
}

function work(int $number): void
{
    $db = connect("application_name='client $number'");
    $db->exec("SET app.client = '$number'");
    $insert = $db->prepare('INSERT INTO seen VALUES (?, ?)');
    for ($n = 0; $n < TRANSACTIONS; $n++) {
        $db->beginTransaction();
        $insert->execute([$number, $n]);
        equal(value($db, "SELECT concat_ws(' ', ?::int, ?::int, current_setting('application_name'), " .
            "current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = ?", [$number, $n, $number]),
            "$number $n client $number $number " . ($n + 1) . " $n");
        $db->commit();
    }
}

$cases = [
    'connect' => function () {
        equal(connect()->getAttribute(PDO::ATTR_DRIVER_NAME), 'pgsql');
    },
    'simple query' => function () {
        $db = connect();
        equal($db->query("SELECT 1 AS a, 'two' AS b")->fetchAll(PDO::FETCH_NUM), [[1, 'two']]);
        equal($db->exec("INSERT INTO item VALUES (1, 'x'); DELETE FROM item"), 1);
    },
    'parametrised query' => function () {
        $db = connect();
        $long = str_repeat('x', 300000);
        $statement = $db->prepare('SELECT :a::int, :b::text, :c::bytea, :d::int, :e::text');
        $statement->bindValue('a', 7, PDO::PARAM_INT);
        $statement->bindValue('b', 'täxt');
        $statement->bindValue('c', "\0\1", PDO::PARAM_LOB);
        $statement->bindValue('d', null, PDO::PARAM_NULL);
        $statement->bindValue('e', $long);
        $statement->execute();
        $row = $statement->fetch(PDO::FETCH_NUM);
        equal([$row[0], $row[1], stream_get_contents($row[2]), $row[3], $row[4]], [7, 'täxt', "\0\1", null, $long]);
    },
    'prepared statement over transactions' => function () {
        $db = connect();
        $others = [];
        for ($i = 0; $i < OTHERS; $i++)
            $others[] = connect();
        $plus = $db->prepare('SELECT ?::int + 1, pg_backend_pid()');
        $servers = [];
        for ($n = 0; $n < 20; $n++) {
            // the others take all servers, then one gives up its own: only that is free
            foreach ($others as $other)
                $other->beginTransaction();
            if (OTHERS)
                $others[$n % OTHERS]->commit();
            $db->beginTransaction();
            $plus->execute([$n]);
            [$next, $server] = $plus->fetch(PDO::FETCH_NUM);
            equal($next, $n + 1);
            $servers[$server] = true;
            $db->commit();
            foreach ($others as $i => $other) {
                if ($other->inTransaction())
                    $other->commit();
                equal(value($other, 'SELECT ?::int + 2', [$i]), $i + 2);
            }
        }
        equal(count($servers), OTHERS ?: 1);
    },
    'prepared statement over a server restart' => function () {
        $db = connect();
        $twice = $db->prepare('SELECT ?::int * 2');
        $twice->execute([4]);
        equal($twice->fetchColumn(), 8);
        restart_server();
        if (SESSION) {
            try {
                $twice->execute([4]);
                throw new Exception('a session outlived its server');
            } catch (PDOException) {
                $db = connect();
                $twice = $db->prepare('SELECT ?::int * 2');
            }
        }
        for ($n = 0; $n < 10; $n++) {
            $twice->execute([$n]);
            equal($twice->fetchColumn(), $n * 2);
        }
    },
    'commit and rollback' => function () {
        $db = connect();
        $db->exec('DELETE FROM item');
        foreach ([1 => 'commit', 2 => 'rollBack'] as $id => $end) {
            $db->beginTransaction();
            $db->prepare('INSERT INTO item VALUES (?, ?)')->execute([$id, $end]);
            $db->exec("SAVEPOINT s; INSERT INTO item VALUES (3, 'lost'); ROLLBACK TO s");
            $db->$end();
        }
        equal(value($db, "SELECT string_agg(id::text, ',') FROM item"), '1');
    },
    'error and recovery' => function () {
        $db = connect();
        $divide = $db->prepare('SELECT 1 / ?::int');
        for ($n = 0; $n < 3; $n++)
            refused('22012', fn () => $divide->execute([0]));
        $db->beginTransaction();
        refused('42703', fn () => $db->query('SELECT nonsense'));
        refused('25P02', fn () => $db->query('SELECT 1'));
        $db->rollBack();
        $divide->execute([1]);
        equal($divide->fetchColumn(), 1);
    },
    'copy in and out' => function () {
        $db = connect();
        $lines = array_map(fn ($n) => "$n\tname $n\n", range(0, 4999));
        equal($db->pgsqlCopyFromArray('copied', $lines), true);
        equal($db->pgsqlCopyToArray('copied'), $lines);
        refused('22P02', fn () => $db->pgsqlCopyFromArray('copied', ["no number\tx\n"]));
        equal(value($db, 'SELECT count(*) FROM copied'), 5000);
    },
    'cancel' => function () {
        throw new Skip('PDO has no way to cancel');
    },
    'set local' => function () {
        $db = connect();
        $db->beginTransaction();
        $db->exec("SET LOCAL work_mem = '7MB'");
        equal(value($db, 'SHOW work_mem'), '7MB');
        $db->commit();
        equal(value($db, 'SHOW work_mem'), '4MB');
    },
    'set of a reported parameter' => function () {
        [$one, $two] = [connect(), connect()];
        $one->exec("SET TimeZone = 'Asia/Tokyo'");
        $two->exec("SET TimeZone = 'America/Lima'");
        for ($n = 0; $n < 10; $n++) {
            equal(value($one, 'SHOW TimeZone'), 'Asia/Tokyo');
            equal(value($two, 'SHOW TimeZone'), 'America/Lima');
        }
    },
    'set of another parameter' => function () {
        [$one, $two] = [connect(), connect()];
        $one->exec('SET search_path = tenant_a');
        $one->exec("SET app.tenant = 'a'");
        value($two, "SELECT set_config('search_path', 'tenant_b', false)");
        for ($n = 0; $n < 10; $n++) {
            equal(value($one, "SELECT current_schema() || current_setting('app.tenant')"), 'tenant_aa');
            equal(value($two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')"), 'tenant_b');
        }
    },
    'startup options' => function () {
        [$one, $two] = [connect("options='-c statement_timeout=77s -c search_path=tenant_b'"), connect()];
        for ($n = 0; $n < 10; $n++) {
            equal(value($one, 'SHOW statement_timeout'), '77s');
            equal(value($one, 'SELECT current_schema()'), 'tenant_b');
            equal(value($two, 'SHOW statement_timeout'), '0');
        }
    },
    'session state that pins' => function () {
        [$one, $two] = [connect(), connect()];
        $one->exec('CREATE TEMP TABLE mine AS SELECT 1 AS n');
        equal(value($one, 'SELECT pg_try_advisory_lock(?)', [42]), true);
        $one->exec('DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)');
        for ($n = 0; $n < 10; $n++) {
            equal(value($one, 'SELECT n FROM mine'), 1);
            equal(value($two, 'SELECT pg_try_advisory_lock(?)', [42]), false);
        }
        equal($one->query('FETCH ALL FROM held')->fetchAll(PDO::FETCH_COLUMN), [1, 2, 3]);
        equal(value($one, 'SELECT pg_advisory_unlock(?)', [42]), true);
        equal(value($two, 'SELECT pg_try_advisory_lock(?)', [42]), true);
    },
    'listen and notify' => function () {
        [$one, $two] = [connect(), connect()];
        $one->exec('LISTEN news');
        $two->exec("NOTIFY news, 'first'");
        value($two, 'SELECT pg_notify(?, ?)', ['news', 'second']);
        foreach (['first', 'second'] as $payload)
            equal($one->pgsqlGetNotify(PDO::FETCH_ASSOC, 30000)['payload'], $payload);
    },
    'pipeline' => function () {
        throw new Skip('PDO has no pipelines');
    },
    'large object' => function () {
        $db = connect();
        $data = str_repeat('abc', 100000);
        $db->beginTransaction();
        $id = $db->pgsqlLOBCreate();
        $stream = $db->pgsqlLOBOpen($id, 'w');
        fwrite($stream, $data);
        fclose($stream);
        $db->commit();
        $db->beginTransaction();
        $stream = $db->pgsqlLOBOpen($id, 'r');
        equal(stream_get_contents($stream) === $data, true);
        fclose($stream);
        $db->pgsqlLOBUnlink($id);
        $db->commit();
    },
    '20 clients keep to themselves' => function () {
        $children = [];
        for ($i = 0; $i < CLIENTS; $i++)
            $children[] = proc_open([PHP_BINARY, __FILE__, (string)$i], [1 => STDOUT, 2 => STDOUT], $pipes);
        foreach ($children as $child)
            equal(proc_close($child), 0);
    },
    'settings for other poolers' => function () {
        foreach ([[PDO::ATTR_EMULATE_PREPARES => true], [PDO::PGSQL_ATTR_DISABLE_PREPARES => true],
                  [PDO::ATTR_PERSISTENT => true]] as $attributes) {
            $db = connect('', $attributes);
            for ($n = 0; $n < 10; $n++)
                equal((int)value($db, 'SELECT ?::int + 1', [$n]), $n + 1);
        }
    },
];

if ($argc > 1) {
    work((int)$argv[1]);
    exit(0);
}
$failed = 0;
foreach ([...explode(';', rtrim(getenv('PGSTAGE_TEST_CASES'), ';')), 'settings for other poolers'] as $i => $name) {
    $number = $i + 1;
    try {
        $cases[$name]();
        echo "ok $number - $name\n";
    } catch (Skip $reason) {
        echo "ok $number - $name # SKIP {$reason->getMessage()}\n";
    } catch (Throwable $error) {
        $failed++;
        echo "not ok $number - $name\n$error\n";
    }
}
exit($failed ? 1 : 0);
