# DBD::Pg with its defaults: parameters make a statement prepared on the server, under a name (pg_server_prepare).
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:async);
use IO::Socket::INET;
use POSIX ();
use Time::HiRes ();

my $session = $ENV{PGSTAGE_TEST_MODE} eq 'session';
my $others = $session ? 0 : 4;    # who take all servers but one
my ($clients, $transactions) = (20, 100);

# Thrown by a case for which the driver has no means.
sub skip { die { skip => $_[0] } }

sub equal {
    my ($seen, $expected) = map { $_ // 'undef' } @_;
    die "$seen instead of $expected\n" . join(' ', (caller(0))[1, 2]) . "\n" if $seen ne $expected;
}

sub connect_to {
    my ($more, %attributes) = @_;
    return DBI->connect("dbi:Pg:host=127.0.0.1;port=$ENV{PGPORT};dbname=app;sslmode=disable;" . ($more // ''), 'app', '',
        { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_enable_utf8 => 1, %attributes });
}

sub value { my ($db, $sql, @arguments) = @_; return ($db->selectrow_array($sql, undef, @arguments))[0] }

sub refused {
    my ($state, $db, $work) = @_;
    die "no error where $state is due\n" if eval { $work->(); 1 };
    equal($db->state, $state);
}

sub restart_server {
    my $control = IO::Socket::INET->new("127.0.0.1:$ENV{PGSTAGE_TEST_CONTROL}") or die "control: $!";
    print $control "restart\n";
    $control->flush;
    equal(scalar <$control>, "done\n");
}

my %cases = (
    'connect' => sub {
        my $db = connect_to();
        equal($db->ping > 0, 1);
        die 'version' if $db->{pg_server_version} < 90000;
    },
    'simple query' => sub {
        my $db = connect_to();
        equal(join(',', $db->selectrow_array("SELECT 1, 'two'")), '1,two');
        $db->do('SELECT 1; SELECT 2');
    },
    'parametrised query' => sub {
        my $db = connect_to();
        my $long = 'x' x 300000;
        my $statement = $db->prepare('SELECT ?::int, ?::text, ?::bytea, ?::int, ?::text');
        $statement->bind_param(3, "\0\1", { pg_type => DBD::Pg::PG_BYTEA });
        $statement->execute(7, 'täxt', "\0\1", undef, $long);
        my @row = $statement->fetchrow_array;
        equal($row[0] . $row[1] . unpack('H*', $row[2]) . (defined $row[3] ? 'value' : 'null'), '7täxt0001null');
        equal($row[4], $long);
    },
    'prepared statement over transactions' => sub {
        my $db = connect_to();
        my @others = map { connect_to() } 1 .. $others;
        my $plus = $db->prepare('SELECT ?::int + 1, pg_backend_pid()');
        my %servers;
        for my $n (0 .. 19) {
            # the others take all servers, then one gives up its own: only that is free
            for my $other (@others) { $other->begin_work; $other->do('SELECT 1') }
            $others[ $n % $others ]->commit if $others;
            $db->begin_work;
            $plus->execute($n);
            my ($next, $server) = $plus->fetchrow_array;
            $plus->finish;
            equal($next, $n + 1);
            $servers{$server} = 1;
            $db->commit;
            for my $other (@others) { $other->commit unless $other->{AutoCommit} }
        }
        equal(scalar(keys %servers), $others || 1);
        equal(defined $plus->{pg_prepare_name} && $plus->{pg_prepare_name} ne '' ? 1 : 0, 1);
    },
    'prepared statement over a server restart' => sub {
        my $db = connect_to();
        my $twice = $db->prepare('SELECT ?::int * 2');
        $twice->execute(4);
        equal(($twice->fetchrow_array)[0], 8);
        $twice->finish;
        restart_server();
        if ($session) {
            die "a session outlived its server\n" if eval { $twice->execute(4); 1 };
            $db = connect_to();
            $twice = $db->prepare('SELECT ?::int * 2');
        }
        for my $n (0 .. 9) {
            $twice->execute($n);
            equal(($twice->fetchrow_array)[0], $n * 2);
            $twice->finish;
        }
    },
    'commit and rollback' => sub {
        my $db = connect_to(undef, AutoCommit => 0);
        $db->do('INSERT INTO item VALUES (?, ?)', undef, 1, 'kept');
        $db->commit;
        $db->do('INSERT INTO item VALUES (?, ?)', undef, 2, 'lost');
        $db->rollback;
        $db->pg_savepoint('here');
        $db->do('INSERT INTO item VALUES (?, ?)', undef, 3, 'lost');
        $db->pg_rollback_to('here');
        $db->do('INSERT INTO item VALUES (?, ?)', undef, 4, 'kept');
        $db->commit;
        equal(value($db, q{SELECT string_agg(id::text, ',' ORDER BY id) FROM item}), '1,4');
        $db->rollback;
    },
    'error and recovery' => sub {
        my $db = connect_to();
        my $divide = $db->prepare('SELECT 1 / ?::int');
        refused('22012', $db, sub { $divide->execute(0) }) for 1 .. 3;
        $db->begin_work;
        refused('42703', $db, sub { $db->do('SELECT nonsense') });
        refused('25P02', $db, sub { $db->do('SELECT 1') });
        $db->rollback;
        $divide->execute(1);
        equal(($divide->fetchrow_array)[0], 1);
    },
    'copy in and out' => sub {
        my $db = connect_to();
        $db->do('COPY copied FROM STDIN');
        $db->pg_putcopydata("$_\tname $_\n") for 0 .. 4999;
        $db->pg_putcopyend;
        $db->do('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT');
        my ($line, $out) = ('', '');
        $out .= $line while $db->pg_getcopydata($line) >= 0;
        equal($out, join('', map { "$_\tname $_\n" } 0 .. 4999));
        $db->do('COPY copied FROM STDIN');
        refused('22P02', $db, sub { $db->pg_putcopydata("no number\tx\n"); $db->pg_putcopyend });
        equal(value($db, 'SELECT count(*) FROM copied'), 5000);
    },
    'cancel' => sub {
        my ($db, $other) = (connect_to(), connect_to());
        my $sleep = $db->prepare('SELECT pg_sleep(50)', { pg_async => PG_ASYNC });
        $sleep->execute;
        Time::HiRes::sleep(0.005)
          until value($other, q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'});
        $db->pg_cancel;
        equal(value($db, 'SELECT 1'), 1);
        equal(value($other, q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'}), 0);
    },
    'set local' => sub {
        my $db = connect_to();
        $db->begin_work;
        $db->do(q{SET LOCAL work_mem = '7MB'});
        equal(value($db, 'SHOW work_mem'), '7MB');
        $db->commit;
        equal(value($db, 'SHOW work_mem'), '4MB');
    },
    'set of a reported parameter' => sub {
        my ($one, $two) = (connect_to(), connect_to());
        $one->do(q{SET TimeZone = 'Asia/Tokyo'});
        $two->do(q{SET TimeZone = 'America/Lima'});
        for (1 .. 10) {
            equal(value($one, 'SHOW TimeZone'), 'Asia/Tokyo');
            equal(value($two, 'SHOW TimeZone'), 'America/Lima');
        }
    },
    'set of another parameter' => sub {
        my ($one, $two) = (connect_to(), connect_to());
        $one->do('SET search_path = tenant_a');
        $one->do(q{SET app.tenant = 'a'});
        $two->do(q{SELECT set_config('search_path', 'tenant_b', false)});
        for (1 .. 10) {
            equal(value($one, q{SELECT current_schema() || current_setting('app.tenant')}), 'tenant_aa');
            equal(value($two, q{SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')}), 'tenant_b');
        }
    },
    'startup options' => sub {
        my ($one, $two) = (connect_to("options='-c statement_timeout=77s -c search_path=tenant_b'"), connect_to());
        for (1 .. 10) {
            equal(value($one, 'SHOW statement_timeout'), '77s');
            equal(value($one, 'SELECT current_schema()'), 'tenant_b');
            equal(value($two, 'SHOW statement_timeout'), '0');
        }
    },
    'session state that pins' => sub {
        my ($one, $two) = (connect_to(), connect_to());
        $one->do('CREATE TEMP TABLE mine AS SELECT 1 AS n');
        equal(value($one, 'SELECT pg_try_advisory_lock(?)', 42), 1);
        $one->do('DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)');
        for (1 .. 10) {
            equal(value($one, 'SELECT n FROM mine'), 1);
            equal(value($two, 'SELECT pg_try_advisory_lock(?)', 42), 0);
        }
        equal(scalar @{ $one->selectall_arrayref('FETCH ALL FROM held') }, 3);
        equal(value($one, 'SELECT pg_advisory_unlock(?)', 42), 1);
        equal(value($two, 'SELECT pg_try_advisory_lock(?)', 42), 1);
    },
    'listen and notify' => sub {
        my ($one, $two) = (connect_to(), connect_to());
        my @seen;
        $one->do('LISTEN news');
        $two->do(q{NOTIFY news, 'first'});
        $two->do('SELECT pg_notify(?, ?)', undef, 'news', 'second');
        my $end = time + 30;
        while (@seen < 2 && time < $end) {
            my $notify = $one->pg_notifies;
            $notify ? push(@seen, "$notify->[0]:$notify->[2]") : Time::HiRes::sleep(0.005);
        }
        equal("@seen", 'news:first news:second');
    },
    'pipeline' => sub { skip('DBD::Pg has no pipelines') },
    'large object' => sub {
        my $db = connect_to(undef, AutoCommit => 0);
        my $data = 'abc' x 100000;
        my $id = $db->pg_lo_creat($db->{pg_INV_READ} | $db->{pg_INV_WRITE});
        my $object = $db->pg_lo_open($id, $db->{pg_INV_READ} | $db->{pg_INV_WRITE});
        equal($db->pg_lo_write($object, $data, length $data), 300000);
        equal($db->pg_lo_lseek($object, 299997, 0), 299997);
        my $seen = '';
        equal($db->pg_lo_read($object, $seen, 100), 3);
        equal($seen, 'abc');
        $db->pg_lo_close($object);
        $db->commit;
        equal(value($db, 'SELECT length(lo_get(?))', $id), 300000);
        $db->pg_lo_unlink($id);
        $db->commit;
    },
    '20 clients keep to themselves' => sub {
        my @children;
        for my $number (0 .. $clients - 1) {
            my $child = fork // die "fork: $!";
            if (!$child) {
                my $done = eval { work($number); 1 };
                print $@ unless $done;
                POSIX::_exit($done ? 0 : 1);
            }
            push @children, $child;
        }
        my $failed = 0;
        for my $child (@children) { waitpid $child, 0; $failed++ if $? }
        equal($failed, 0);
    },
);

sub work {
    my ($number) = @_;
    my $db = connect_to("application_name='client $number'");
    $db->do("SET app.client = '$number'");
    my $look = $db->prepare(q{SELECT concat_ws(' ', ?::int, ?::int, current_setting('application_name'),
        current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = ?});
    for my $n (0 .. $transactions - 1) {
        $db->begin_work;
        $db->do('INSERT INTO seen VALUES (?, ?)', undef, $number, $n);
        $look->execute($number, $n, $number);
        equal(($look->fetchrow_array)[0], "$number $n client $number $number " . ($n + 1) . " $n");
        $look->finish;
        $db->commit;
    }
    $db->disconnect;
}

$| = 1;
binmode STDOUT, ':utf8';
my ($number, $failed) = (0, 0);
for my $name (split /;/, $ENV{PGSTAGE_TEST_CASES}) {
    $number++;
    local $SIG{ALRM} = sub { die "does not end\n" };
    alarm 60;
    my $done = eval { ($cases{$name} // next)->(); 1 };
    alarm 0;
    if ($done) { print "ok $number - $name\n" }
    elsif (ref $@) { print "ok $number - $name # SKIP $@->{skip}\n" }
    else { $failed++; print "not ok $number - $name\n$@\n" }
}
exit($failed ? 1 : 0);
