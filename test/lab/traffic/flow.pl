#!/usr/bin/perl
# Flows that go on until standard input ends, each to an echo.pl: `flow.pl MILLISECONDS udp 10.244.2.11 7000 tcp 10.244.3.11 7000 ...`. Of each flow a
# numbered packet leaves every so many milliseconds. `flowing` is printed when each had its first answer; at the end a line a flow:
# transport, address, packets sent, packets answered, the longest wait for an answer in milliseconds, and times (milliseconds since the start) of
# the packets that had no answer.
use strict;
use warnings;
use Config;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6 IPPROTO_TCP TCP_NODELAY);

my ($F_SETFL, $O_NONBLOCK) = (4, 2048);
my $CLOCK_GETTIME = $Config{archname} =~ /aarch64/ ? 113 : 228;
my ($LENGTH, $PATIENCE) = (200, 2);

sub now {
    my @arguments = (1, "\0" x 16);    # CLOCK_MONOTONIC
    syscall($CLOCK_GETTIME, @arguments);
    my ($seconds, $nanoseconds) = unpack 'qq', $arguments[1];
    return $seconds + $nanoseconds / 1e9;
}

my ($every, @targets) = @ARGV;
my @flows;
while (my ($transport, $address, $port) = splice @targets, 0, 3) {
    my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
    my $packed = inet_pton($family, $address) or die "not an address: $address\n";
    my $end = $family == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed);
    socket my $socket, $family, $transport eq 'udp' ? SOCK_DGRAM : SOCK_STREAM, 0 or die "socket: $!\n";
    connect $socket, $end or die "connect $transport $address: $!\n";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if $transport eq 'tcp';
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    push @flows, { transport => $transport, address => $address, socket => $socket, sent => {}, count => 0, longest => 0, rest => '', queue => '' };
}

sub hear {
    my ($flow) = @_;
    while (defined(my $n = sysread $flow->{socket}, my $bytes, 65536)) {
        last if $n == 0;
        $flow->{rest} .= $bytes;
        while (length $flow->{rest} >= $LENGTH) {
            my $number = unpack 'N', substr $flow->{rest}, 0, $LENGTH, '';
            my $began = delete $flow->{sent}{$number} // next;
            my $took = now() - $began;
            $flow->{longest} = $took if $took > $flow->{longest};
            $flow->{answered}++;
        }
    }
}

sub say_next {
    my ($flow) = @_;
    my $number = $flow->{count}++;
    $flow->{sent}{$number} = now();
    my $packet = pack "N x@{[$LENGTH - 4]}", $number;
    # What a datagram socket does not take is a packet without an answer.
    if ($flow->{transport} eq 'udp') { syswrite $flow->{socket}, $packet }
    else                             { $flow->{queue} .= $packet; flush($flow) }
}

sub flush {
    my ($flow) = @_;
    my $n = syswrite $flow->{socket}, $flow->{queue} or return;
    substr($flow->{queue}, 0, $n) = '';
}

$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($start, $ticks, $flowing, $deadline) = (now(), 0, 0);
while (1) {
    my $time = now();
    last if defined $deadline && ($time > $deadline || !grep { %{ $_->{sent} } } @flows);
    my $due = defined $deadline ? 0 : int(($time - $start) * 1000 / $every) - $ticks;
    for (1 .. $due) { $ticks++; say_next($_) for @flows }
    my $r = '';
    vec($r, fileno $_->{socket}, 1) = 1 for @flows;
    vec($r, 0, 1) = 1 unless defined $deadline;
    my $next = $start + ($ticks + 1) * $every / 1000 - now();
    next if select($r, undef, undef, $next > 0.001 ? $next : 0.001) <= 0;
    hear($_) for grep { vec $r, fileno $_->{socket}, 1 } @flows;
    if (!$flowing && !grep { !$_->{answered} } @flows) { $flowing = 1; print "flowing\n" }
    if (!defined $deadline && vec $r, 0, 1) { $deadline = now() + $PATIENCE if !sysread STDIN, my $nothing, 64 }
}
for my $flow (@flows) {
    my @missing = map { int(($_ - $start) * 1000) } sort { $a <=> $b } values %{ $flow->{sent} };
    print join(' ', @$flow{qw(transport address count)}, $flow->{answered} // 0, int($flow->{longest} * 1000), @missing), "\n";
}
