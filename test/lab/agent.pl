#!/usr/bin/perl
# The lab's hands: one process that starts programs, writes files and opens sockets in any network namespace of the place it runs in.
#
# One process serves every namespace, because a socket belongs for life to the namespace it was made in: setns(2), socket(2), done.
# So twenty probes cost one small perl (perl-base only) instead of twenty, and no probe ever costs an exec.
#
#   agent.pl here      works in the namespaces it finds (a guest that is all ours)
#   agent.pl apart     first takes a network and a mount namespace of its own and an empty /run (this machine)
#
# Standard input and output carry frames: a 32-bit length, then fields, each a 32-bit length and bytes. The first field is the number of
# the exchange, the second what is asked or told; agent.ts has the other side of every verb.
use strict;
use warnings;
use Config;
use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6 AF_INET6 IPPROTO_TCP TCP_NODELAY);

my %SYS = $Config{archname} =~ /aarch64/
    ? (unshare => 97, setns => 268, mount => 40, prctl => 167, clock_gettime => 113, exit_group => 94, setsid => 157, sethostname => 161)
    : (unshare => 272, setns => 308, mount => 165, prctl => 157, clock_gettime => 228, exit_group => 231, setsid => 112, sethostname => 170);
my ($CLONE_NEWNS, $CLONE_NEWUTS, $CLONE_NEWNET) = (0x20000, 0x4000000, 0x40000000);
my ($MS_BIND, $MS_REC, $MS_PRIVATE) = (4096, 16384, 1 << 18);
my ($F_SETFL, $O_NONBLOCK, $WNOHANG) = (4, 2048, 1);
my ($EINTR, $EAGAIN, $EINPROGRESS) = (4, 11, 115);
my ($IPPROTO_IP, $IP_RECVERR, $IP_FREEBIND, $IPPROTO_IPV6, $IPV6_RECVERR, $IPV6_V6ONLY) = (0, 11, 15, 41, 25, 26);
my %TRANSPORT = (tcp => [SOCK_STREAM, 6], udp => [SOCK_DGRAM, 17], sctp => [SOCK_STREAM, 132]);

my (%on_read, %on_write, %timers, %exchange, %child, %namespace);
my $current_namespace = '';
open my $own_namespace, '<', '/proc/self/ns/net' or die "agent: own network namespace: $!\n";

# ---- the loop -----------------------------------------------------------------------------------------------------------------

sub now {
    my @arguments = (1, "\0" x 16);    # CLOCK_MONOTONIC
    syscall($SYS{clock_gettime}, @arguments);
    my ($seconds, $nanoseconds) = unpack 'qq', $arguments[1];
    return $seconds + $nanoseconds / 1e9;
}

my $timer_number = 0;
sub after {
    my ($milliseconds, $action) = @_;
    $timers{ ++$timer_number } = [now() + $milliseconds / 1000, $action];
    return $timer_number;
}

sub one_turn {
    my ($r, $w) = ('', '');
    vec($r, $_, 1) = 1 for keys %on_read;
    vec($w, $_, 1) = 1 for keys %on_write;
    # perl runs its signal handlers between operations: one that comes just before select(2) sleeps would wait for the next event.
    my $wait = %child ? 0.2 : undef;
    my $time = now();
    for (values %timers) { my $left = $_->[0] - $time; $left = 0 if $left < 0; $wait = $left if !defined $wait || $left < $wait }
    my $ready = select $r, $w, undef, $wait;
    if ($ready > 0) {
        my %due = ((map { ("r$_" => $on_read{$_}) } grep { vec $r, $_, 1 } keys %on_read), (map { ("w$_" => $on_write{$_}) } grep { vec $w, $_, 1 } keys %on_write));
        # An action may close a descriptor whose number the next one opens again: only what was waited for is called.
        for (keys %due) {
            my $watching = /^r(\d+)/ ? $on_read{$1} : $on_write{ substr $_, 1 };
            $watching->() if $watching && $watching == $due{$_};
        }
    }
    reap() if %child;
    # What has come while the actions took their time is looked at before a timer says that it did not.
    $time = now() if $ready <= 0;
    for my $number (keys %timers) {
        my $timer = $timers{$number} or next;
        next if $timer->[0] > $time;
        delete $timers{$number};
        $timer->[1]->();
    }
}

sub forget { for (@_) { next unless defined $_ && defined fileno $_; delete $on_read{ fileno $_ }; delete $on_write{ fileno $_ }; close $_ } }

# ---- frames -------------------------------------------------------------------------------------------------------------------

sub report {
    my $payload = pack '(N/a*)*', @_;
    my $frame = pack 'N/a*', $payload;
    my $sent = 0;
    while ($sent < length $frame) {
        my $n = syswrite STDOUT, $frame, length($frame) - $sent, $sent;
        if    (defined $n)      { $sent += $n }
        elsif ($! != $EINTR)    { leave() }
    }
}

my $received = '';
sub listen_to_controller {
    my $n = sysread STDIN, $received, 1 << 16, length $received;
    leave() if defined $n ? $n == 0 : $! != $EINTR;
    report('', 'got', $n // 0);
    while (length $received >= 4) {
        my $length = unpack 'N', $received;
        last if length $received < 4 + $length;
        my ($id, $verb, @fields) = unpack '(N/a*)*', substr $received, 4, $length;
        substr($received, 0, 4 + $length) = '';
        eval { handle($id, $verb, @fields); 1 } or report($id, 'error', $@ =~ s/ at \S+ line \d+\.?\n//r);
    }
}

sub leave {
    kill 'KILL', map { -$_ } keys %child;
    exit 0;
}

# ---- namespaces and files -----------------------------------------------------------------------------------------------------

sub enter {
    my ($name) = @_;
    return if $name eq $current_namespace;
    my $handle = $own_namespace;
    if ($name ne '') {
        unless ($namespace{$name}) { open $namespace{$name}, '<', "/run/netns/$name" or do { delete $namespace{$name}; die "network namespace $name: $!\n" } }
        $handle = $namespace{$name};
    }
    syscall($SYS{setns}, fileno $handle, $CLONE_NEWNET) == 0 or die "setns $name: $!\n";
    $current_namespace = $name;
}

sub mount_or_die {
    my ($source, $target, $type, $flags, $options) = @_;
    my @arguments = ($source, $target, $type, $flags, $options);
    syscall($SYS{mount}, @arguments) == 0 or die "mount $source on $target: $!\n";
}

sub make_folders {
    my ($path) = @_;
    my $folder = '';
    for (split m{/}, $path) { $folder .= "$_/"; mkdir $folder unless -d $folder }
}

# Every namespace has a /run of its own, as machines do: sockets, pid files and the xtables lock of three nodes must not meet.
sub own_run { my ($name) = @_; return "/run/lab/$name" }
sub path_in { my ($name, $path) = @_; return $name ne '' && $path =~ m{^/run(/.*)$} ? own_run($name) . $1 : $path }

sub write_files {
    my ($name, @pairs) = @_;
    enter($name);
    while (my ($asked, $bytes) = splice @pairs, 0, 2) {
        my $path = path_in($name, $asked);
        my $kernels = $path =~ m{^/(proc|sys)/};
        make_folders($path =~ s{/[^/]*$}{}r) unless $kernels;
        # Renamed into place: whoever watches the folder never reads half a file.
        my $target = $kernels ? $path : "$path.part";
        open my $file, '>', $target or die "$asked: $!\n";
        syswrite $file, $bytes or length $bytes == 0 or die "$asked: $!\n";
        close $file or die "$asked: $!\n";
        $kernels or rename $target, $path or die "$asked: $!\n";
    }
}

sub read_file {
    my ($name, $path) = @_;
    enter($name);
    open my $file, '<', path_in($name, $path) or die "$path: $!\n";
    local $/;
    return scalar <$file> // '';
}

# ---- programs -----------------------------------------------------------------------------------------------------------------

sub in_child {
    my ($name, $folder, $environment, @argv) = @_;
    my @die_with_agent = (1, 9, 0, 0, 0);
    syscall($SYS{prctl}, @die_with_agent);
    syscall($SYS{setsid});
    enter($name);
    if ($name ne '') {
        syscall($SYS{unshare}, $CLONE_NEWNS | $CLONE_NEWUTS) == 0 or die "unshare: $!\n";
        syscall($SYS{sethostname}, $name, length $name);
        mount_or_die('none', '/', '', $MS_REC | $MS_PRIVATE, '');
        mount_or_die($name, '/sys', 'sysfs', 0, '');
        make_folders(own_run($name) . '/lock');
        mount_or_die(own_run($name), '/run', '', $MS_BIND, '');
    }
    chdir $folder or die "chdir $folder: $!\n";
    for (@$environment) { my ($key, $value) = split /=/, $_, 2; $ENV{$key} = $value }
    no warnings 'exec';
    exec { $argv[0] } @argv or die "exec $argv[0]: $!\n";
}

sub spawn {
    my ($id, $name, $folder, $input, $count, @rest) = @_;
    my @environment = splice @rest, 0, $count;
    enter('');
    pipe my $in_r,  my $in_w  or die "pipe: $!\n";
    pipe my $out_r, my $out_w or die "pipe: $!\n";
    pipe my $err_r, my $err_w or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    unless ($pid) {
        $SIG{CHLD} = 'DEFAULT';
        close $in_w;
        open STDIN,  '<&', $in_r;
        open STDOUT, '>&', $out_w;
        open STDERR, '>&', $err_w;
        eval { in_child($name, $folder, \@environment, @rest) };
        syswrite STDERR, $@;
        syscall($SYS{exit_group}, 127);
    }
    fcntl $_, $F_SETFL, $O_NONBLOCK for $in_w, $out_r, $err_r;
    my $process = $exchange{$id} = { kind => 'process', pid => $pid, in => $in_w, queue => '', closing => $input eq 'empty', out => $out_r, err => $err_r };
    $child{$pid} = $id;
    $on_read{ fileno $out_r } = sub { pass_on($id, 'out') };
    $on_read{ fileno $err_r } = sub { pass_on($id, 'err') };
    feed($process);
}

# Returns whether there may be more to read at once.
sub pass_on {
    my ($id, $which) = @_;
    my $handle = $exchange{$id}{$which} or return 0;
    my $n = sysread $handle, my $bytes, 1 << 16;
    return 0 if !defined $n && ($! == $EAGAIN || $! == $EINTR);
    if ($n) { report($id, $which, $bytes); return 1 }
    forget($handle);
    delete $exchange{$id}{$which};
    return 0;
}

sub feed {
    my ($process) = @_;
    my $handle = $process->{in} or return;
    while (length $process->{queue}) {
        my $n = syswrite $handle, $process->{queue};
        if (defined $n) { substr($process->{queue}, 0, $n) = ''; next }
        if ($! == $EAGAIN) { $on_write{ fileno $handle } = sub { feed($process) }; return }
        $process->{queue} = '';
        $process->{closing} = 1;
    }
    delete $on_write{ fileno $handle };
    forget(delete $process->{in}) if $process->{closing};
}

sub reap {
    while ((my $pid = waitpid -1, $WNOHANG) > 0) {
        my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
        my $id = delete $child{$pid} // next;
        for my $which (qw(out err)) { 1 while pass_on($id, $which) }
        my $process = delete $exchange{$id};
        forget(grep { defined } @$process{qw(in out err)});
        report($id, 'exit', $status);
    }
}

# ---- sockets ------------------------------------------------------------------------------------------------------------------

sub endpoint {
    my ($address, $port) = @_;
    my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
    my $packed = inet_pton($family, $address) or die "not an address: $address\n";
    return $family == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed);
}

sub spelled {
    my ($endpoint) = @_;
    return '- 0' unless $endpoint;
    my $family = sockaddr_family($endpoint);
    my ($port, $packed) = $family == AF_INET6 ? unpack_sockaddr_in6($endpoint) : unpack_sockaddr_in($endpoint);
    return inet_ntop($family, $packed) . " $port";
}

sub new_socket {
    my ($name, $transport, $address) = @_;
    my ($type, $protocol) = @{ $TRANSPORT{$transport} or die "no such transport: $transport\n" };
    enter($name);
    my $six = $address =~ /:/;
    socket my $socket, $six ? AF_INET6 : AF_INET, $type, $protocol or die "$transport socket: $!\n";
    setsockopt $socket, $IPPROTO_IPV6, $IPV6_V6ONLY, 1 if $six;
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    return $socket;
}

# A server says who it is, whom it sees and where it was reached: once to every new connection, then once per line or datagram it gets.
sub serve {
    my ($id, $name, $transport, $address, $port, $identity) = @_;
    my $socket = new_socket($name, $transport, $address);
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 if $transport ne 'udp';
    bind $socket, endpoint($address, $port) or die "bind $transport $address port $port: $!\n";
    my $server = $exchange{$id} = { kind => 'server', sockets => { fileno $socket => $socket } };
    if ($transport eq 'udp') {
        $on_read{ fileno $socket } = sub {
            my $peer = recv $socket, my $datagram, 65536, 0;
            # A datagram with a number has it back: of a flow it shows which were answered.
            my $number = $datagram =~ /^(#\d+)$/ ? " $1" : '';
            send $socket, "$identity " . spelled($peer) . ' ' . spelled(getsockname $socket) . "$number\n", 0, $peer if $peer;
        };
    } else {
        listen $socket, 1024 or die "listen: $!\n";
        $on_read{ fileno $socket } = sub { greet($server, $identity, $socket) };
    }
    report($id, 'done');
}

sub greet {
    my ($server, $identity, $listener) = @_;
    my $peer = accept my $socket, $listener or return;
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    my $greeting = "$identity " . spelled($peer) . ' ' . spelled(getsockname $socket) . "\n";
    $server->{sockets}{ fileno $socket } = $socket;
    syswrite $socket, $greeting;
    $on_read{ fileno $socket } = sub {
        my $n = sysread $socket, my $bytes, 65536;
        return if !defined $n && $! == $EAGAIN;
        if ($n) { syswrite $socket, $greeting x ($bytes =~ tr/\n//) }
        else    { delete $server->{sockets}{ fileno $socket }; forget($socket) }
    };
}

# SCTP offers every address of its host as a path unless bound to one; a NAT on the way would then see paths it cannot translate.
sub source_towards {
    my ($name, $address, $port) = @_;
    my $socket = new_socket($name, 'udp', $address);
    connect $socket, endpoint($address, $port) or return undef;
    return (split / /, spelled(getsockname $socket))[0];
}

# Opens a connection and waits for the server's first line. $then gets (outcome, text, socket or undef), where outcome is
# answer | timeout | closed | errno N.
sub reach {
    my ($target, $then) = @_;
    my ($name, $transport, $address, $port, $source, $source_port, $limit) = @$target;
    my $socket = new_socket($name, $transport, $address);
    $source = source_towards($name, $address, $port) // '' if $transport eq 'sctp' && $source eq '';
    if ($source ne '' || $source_port) {
        setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 if $transport ne 'udp';
        bind $socket, endpoint($source ne '' ? $source : $address =~ /:/ ? '::' : '0.0.0.0', $source_port)
            or return $then->('errno ' . ($! + 0), 'bind');
    }
    if ($transport eq 'udp') {
        # Without it a connected socket learns of "port unreachable" only, not of the other refusals.
        if ($address =~ /:/) { setsockopt $socket, $IPPROTO_IPV6, $IPV6_RECVERR, 1 }
        else                 { setsockopt $socket, $IPPROTO_IP,   $IP_RECVERR,   1 }
    }
    unless (connect $socket, endpoint($address, $port)) {
        return $then->('errno ' . ($! + 0), 'connect') if $! != $EINPROGRESS;
        my $timer;
        my $over = sub { delete $timers{$timer}; delete $on_write{ fileno $socket } };
        my $deadline = now() + $limit / 1000;
        $timer = after($limit, sub { $over->(); forget($socket); $then->('timeout', 'connect') });
        $on_write{ fileno $socket } = sub {
            $over->();
            my $errno = unpack 'l', getsockopt $socket, SOL_SOCKET, SO_ERROR;
            if ($errno) { forget($socket); return $then->("errno $errno", 'connect') }
            my $left = ($deadline - now()) * 1000;
            await_line($socket, $left > 1 ? $left : 1, $then);
        };
        return;
    }
    return converse($socket, "?\n", $limit, $then) if $transport eq 'udp';
    await_line($socket, $limit, $then);
}

sub converse {
    my ($socket, $text, $limit, $then) = @_;
    unless (defined syswrite $socket, $text) {
        my $errno = $! + 0;
        forget($socket);
        return $then->("errno $errno", 'send');
    }
    await_line($socket, $limit, $then);
}

sub await_line {
    my ($socket, $limit, $then) = @_;
    my $line = '';
    my $timer;
    my $finish = sub {
        my ($outcome, $text) = @_;
        delete $timers{$timer};
        delete $on_read{ fileno $socket };
        forget($socket) if $outcome ne 'answer' && $outcome ne 'timeout';
        $then->($outcome, $text, $outcome eq 'answer' || $outcome eq 'timeout' ? $socket : undef);
    };
    $timer = after($limit, sub { $finish->('timeout', 'answer') });
    $on_read{ fileno $socket } = sub {
        my $n = sysread $socket, $line, 65536, length $line;
        if (!defined $n) { $finish->('errno ' . ($! + 0), 'answer') unless $! == $EAGAIN || $! == $EINTR }
        elsif ($n == 0 && $line eq '') { $finish->('closed', 'answer') }
        elsif ($line =~ /\n$/) { chomp $line; $finish->('answer', $line) }
    };
}

sub burst {
    my ($id, $count, @target) = @_;
    my @results;
    my $next;
    $next = sub {
        if ($count-- <= 0) { undef $next; return report($id, 'results', @results) }
        my $again = $next;
        reach(\@target, sub {
            my ($outcome, $text, $socket) = @_;
            forget($socket) if $socket;
            push @results, $outcome, $text;
            # Through the loop, not by recursion: a burst may have thousands, and the servers answer from the same loop.
            after(0, $again);
        });
    };
    $next->();
}

sub hold {
    my ($id, @target) = @_;
    my $held = $exchange{$id} = { kind => 'held' };
    reach(\@target, sub {
        my ($outcome, $text, $socket) = @_;
        if ($held->{ended}) { forget($socket) if $socket; return }
        $held->{socket} = $socket;
        report($id, 'result', $outcome, $text);
    });
}

sub say_on {
    my ($id, $text, $limit) = @_;
    my $held = $exchange{$id} or die "no such connection\n";
    my $socket = $held->{socket} or return report($id, 'result', 'closed', 'send');
    converse($socket, "$text\n", $limit, sub {
        my ($outcome, $answer, $open) = @_;
        $held->{socket} = $open;
        report($id, 'result', $outcome, $answer);
    });
}

# ---- a pair that is watched: a fresh connection every few milliseconds, however those before it fare --------------------------------

# Ports in turn: a firewall takes a datagram from a port used half a minute ago for one of the same flow.
my %next_port;
my ($FIRST_WATCH_PORT, $WATCH_PORTS) = (10_000, 22_000);

sub watch {
    my ($id, $every, $name, @target) = @_;
    my $watch = $exchange{$id} = { kind => 'watch', pending => 0, ended => 0 };
    my $begin;
    $begin = sub {
        if ($watch->{ended}) { undef $begin; return finish_watch($id) }
        $target[4] = $FIRST_WATCH_PORT + $next_port{$name}++ % $WATCH_PORTS;
        my $began = now();
        $watch->{pending}++;
        reach([$name, @target], sub {
            my ($outcome, $text, $socket) = @_;
            forget($socket) if $socket;
            $watch->{pending}--;
            report($id, 'attempt', $began * 1000, now() * 1000, $outcome, $text) unless $text eq 'bind';
            finish_watch($id) if $watch->{ended};
        });
        after($every, $begin) if $begin;
    };
    $begin->();
    report($id, 'done');
}

sub finish_watch {
    my ($id) = @_;
    my $watch = $exchange{$id} or return;
    return if $watch->{pending};
    delete $exchange{$id};
    report($id, 'over');
}

# ---- a port of a namespace whose connections are answered by the controller -------------------------------------------------------

sub forward {
    my ($id, $name, $address, $port) = @_;
    my $listener = new_socket($name, 'tcp', $address);
    setsockopt $listener, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $listener, endpoint($address, $port) or die "bind tcp $address port $port: $!\n";
    listen $listener, 1024 or die "listen: $!\n";
    my $forward = $exchange{$id} = { kind => 'forward', sockets => { listener => $listener }, queues => {} };
    my $number = 0;
    $on_read{ fileno $listener } = sub {
        accept my $socket, $listener or return;
        fcntl $socket, $F_SETFL, $O_NONBLOCK;
        setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
        my $connection = ++$number;
        $forward->{sockets}{$connection} = $socket;
        report($id, 'accepted', $connection);
        $on_read{ fileno $socket } = sub {
            my $n = sysread $socket, my $bytes, 65536;
            return if !defined $n && $! == $EAGAIN;
            return report($id, 'data', $connection, $bytes) if $n;
            end_forwarded($forward, $connection);
            report($id, 'closed', $connection);
        };
    };
    report($id, 'done');
}

sub end_forwarded {
    my ($forward, $connection) = @_;
    my $socket = delete $forward->{sockets}{$connection} or return;
    delete $forward->{queues}{$connection};
    forget($socket);
}

sub send_forwarded {
    my ($forward, $connection, $bytes) = @_;
    my $socket = $forward->{sockets}{$connection} or return;
    $forward->{queues}{$connection} .= $bytes;
    my $flush;
    $flush = sub {
        my $queue = \$forward->{queues}{$connection};
        while (length $$queue) {
            my $n = syswrite $socket, $$queue, 65536;
            if (defined $n) { substr($$queue, 0, $n) = ''; next }
            if ($! == $EAGAIN) { $on_write{ fileno $socket } = $flush; return }
            return end_forwarded($forward, $connection);
        }
        delete $on_write{ fileno $socket };
        end_forwarded($forward, $connection) if $forward->{ending}{$connection};
    };
    $flush->();
}

# ---- what can be asked --------------------------------------------------------------------------------------------------------

sub handle {
    my ($id, $verb, @fields) = @_;
    my $this = $exchange{$id};
    if    ($verb eq 'spawn')   { spawn($id, @fields) }
    elsif ($verb eq 'stdin')   { if ($this) { $this->{queue} .= $fields[0]; feed($this) } }
    elsif ($verb eq 'eof')     { if ($this) { $this->{closing} = 1; feed($this) } }
    elsif ($verb eq 'signal')  { kill $fields[0], -$this->{pid} if $this }
    elsif ($verb eq 'write')   { write_files(@fields); report($id, 'done') }
    elsif ($verb eq 'read')    { report($id, 'done', read_file(@fields)) }
    elsif ($verb eq 'remove')  { unlink path_in(@fields) or die "$fields[1]: $!\n"; report($id, 'done') }
    elsif ($verb eq 'serve')   { serve($id, @fields) }
    elsif ($verb eq 'connect') { reach(\@fields, sub { forget($_[2]) if $_[2]; report($id, 'result', @_[0, 1]) }) }
    elsif ($verb eq 'burst')   { burst($id, @fields) }
    elsif ($verb eq 'hold')    { hold($id, @fields) }
    elsif ($verb eq 'say')     { say_on($id, @fields) }
    elsif ($verb eq 'watch')   { watch($id, @fields) }
    elsif ($verb eq 'unwatch') { if ($this) { $this->{ended} = 1; finish_watch($id) } }
    elsif ($verb eq 'clock')   { report($id, 'done', now() * 1000) }
    elsif ($verb eq 'forward') { forward($id, @fields) }
    elsif ($verb eq 'data')    { send_forwarded($this, @fields) if $this }
    elsif ($verb eq 'closed')  { if ($this) { $this->{ending}{ $fields[0] } = 1; send_forwarded($this, $fields[0], '') } }
    elsif ($verb eq 'end')     { end($id); report($id, 'done') }
    elsif ($verb eq 'leave')   { leave() }
    else                       { die "no such verb: $verb\n" }
}

# Ends a server with its connections, a held connection, or a forwarded port.
sub end {
    my ($id) = @_;
    my $this = delete $exchange{$id} or return;
    $this->{ended} = 1;
    forget($this->{socket}) if $this->{socket};
    forget(values %{ $this->{sockets} }) if $this->{sockets};
}

$SIG{PIPE} = 'IGNORE';
pipe my $child_ended_r, my $child_ended_w or die "agent: pipe: $!\n";
fcntl $_, $F_SETFL, $O_NONBLOCK for $child_ended_r, $child_ended_w;
$SIG{CHLD} = sub { syswrite $child_ended_w, '.' };
$on_read{ fileno $child_ended_r } = sub { sysread $child_ended_r, my $dots, 4096 };
$SIG{INT}  = 'IGNORE';
$ENV{PATH} = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
if (($ARGV[0] // '') eq 'apart') {
    syscall($SYS{unshare}, $CLONE_NEWNET | $CLONE_NEWNS) == 0 or die "agent: unshare: $!\n";
    mount_or_die('none', '/', '', $MS_REC | $MS_PRIVATE, '');
    mount_or_die('lab', '/run', 'tmpfs', 0, 'mode=755');
    open $own_namespace, '<', '/proc/self/ns/net' or die "agent: own network namespace: $!\n";
}
make_folders("/run/$_") for qw(lock netns lab);
binmode STDIN;
binmode STDOUT;
report('', 'ready');
$on_read{0} = \&listen_to_controller;
one_turn() while 1;
