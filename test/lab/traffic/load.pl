#!/usr/bin/perl
# Load on Services from one host until standard input ends, each connection with its outcome. Streams are groups of arguments:
#   KIND TRANSPORT ADDRESS PORT EVERY SOURCE_PORT COUNT
#   short  a fresh connection every EVERY milliseconds, closed after the server's first answer; with a source port, COUNT ports in turn
#   keep   COUNT connections that ask every EVERY milliseconds; one that ends is opened again
#   flow   datagrams from one socket, numbered, one every EVERY milliseconds, however those before it fared
# Servers are those of agent.pl. Prints `flowing` when each stream, and each connection that is kept, has had an answer, and a line for each exchange:
#   STREAM CONNECTION open|on BEGAN ENDED OUTCOME TEXT
# with times in milliseconds of CLOCK_MONOTONIC, and outcome and text as agent.pl has them.
use strict;
use warnings;
use Config;
use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6 AF_INET6);

my ($F_SETFL, $O_NONBLOCK, $EAGAIN, $EINPROGRESS) = (4, 2048, 11, 115);
my $CLOCK_GETTIME = $Config{archname} =~ /aarch64/ ? 113 : 228;
my ($IP_RECVERR, $IPV6_RECVERR, $IPV6_V6ONLY) = (11, 25, 26);
my %TRANSPORT = (tcp => [SOCK_STREAM, 6], udp => [SOCK_DGRAM, 17], sctp => [SOCK_STREAM, 132]);
# Past the first retransmission of TCP, so that a lost SYN shows as a late answer and not as silence.
my $LIMIT = 2500;

my (%open, @streams, $printed);
$printed = '';

sub now {
    my @arguments = (1, "\0" x 16);    # CLOCK_MONOTONIC
    syscall($CLOCK_GETTIME, @arguments);
    my ($seconds, $nanoseconds) = unpack 'qq', $arguments[1];
    return $seconds * 1000 + $nanoseconds / 1e6;
}

while (my ($kind, $transport, $address, $port, $every, $source_port, $count) = splice @ARGV, 0, 7) {
    my $index = @streams;
    push @streams, { index => $index, kind => $kind, transport => $transport, address => $address, port => $port, every => $every,
        source_port => $source_port, count => $count, number => 0, ticks => 0, answered => 0, kept => [] };
}

sub sockaddr {
    my ($address, $port) = @_;
    my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
    my $packed = inet_pton($family, $address) or die "not an address: $address\n";
    return $family == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed);
}

sub note {
    my ($one, $outcome, $text) = @_;
    my $stream = $one->{stream};
    $stream->{answered}++ if $outcome eq 'answer' && $one->{phase} eq 'open';
    $printed .= sprintf "%d %d %s %.3f %.3f %s %s\n", $stream->{index}, $one->{number}, $one->{phase}, $one->{began}, now(), $outcome, $text;
}

sub drop { my ($one) = @_; delete $open{ $one->{fd} }; close $one->{socket}; $one->{gone} = 1 }

sub failed {
    my ($one, $outcome, $what) = @_;
    note($one, $outcome, $what);
    drop($one);
}

# SCTP offers every address of its host as a path unless bound to one.
sub source_towards {
    my ($family, $end) = @_;
    socket my $socket, $family, SOCK_DGRAM, 17 or return undef;
    connect $socket, $end or return undef;
    my $own = getsockname $socket;
    return $family == AF_INET6 ? inet_ntop($family, (unpack_sockaddr_in6($own))[1]) : inet_ntop($family, (unpack_sockaddr_in($own))[1]);
}

sub begin {
    my ($stream) = @_;
    my ($type, $protocol) = @{ $TRANSPORT{ $stream->{transport} } };
    my $end = sockaddr($stream->{address}, $stream->{port});
    my $family = $stream->{address} =~ /:/ ? AF_INET6 : AF_INET;
    socket my $socket, $family, $type, $protocol or die "socket: $!\n";
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    setsockopt $socket, 41, $IPV6_V6ONLY, 1 if $family == AF_INET6;
    my $number = $stream->{number}++;
    my $one = { stream => $stream, socket => $socket, fd => fileno $socket, number => $number, phase => 'open', began => now(), text => '', sent => {} };
    $open{ $one->{fd} } = $one;
    my $port = $stream->{source_port} ? $stream->{source_port} + $number % $stream->{count} : 0;
    my $source = $stream->{transport} eq 'sctp' ? source_towards($family, $end) : $family == AF_INET6 ? '::' : '0.0.0.0';
    if ($port || $stream->{transport} eq 'sctp') {
        setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
        bind $socket, sockaddr($source, $port) or return failed($one, 'errno ' . ($! + 0), 'bind');
    }
    if ($stream->{transport} eq 'udp') { setsockopt $socket, $family == AF_INET6 ? 41 : 0, $family == AF_INET6 ? $IPV6_RECVERR : $IP_RECVERR, 1 }
    unless (connect $socket, $end) {
        return failed($one, 'errno ' . ($! + 0), 'connect') if $! != $EINPROGRESS;
        $one->{connecting} = 1;
    }
    if ($stream->{kind} ne 'flow') {
        $one->{deadline} = $one->{began} + $LIMIT;
        syswrite $socket, "?\n" if $stream->{transport} eq 'udp';
    }
    return $one;
}

sub ask {
    my ($one) = @_;
    return if $one->{deadline} || $one->{gone};
    @$one{qw(phase began text)} = ('on', now(), '');
    $one->{deadline} = $one->{began} + $LIMIT;
    defined syswrite $one->{socket}, "?\n" or failed($one, 'errno ' . ($! + 0), 'send');
}

sub datagram {
    my ($one) = @_;
    my $number = $one->{next}++ // 0;
    $one->{next} = $number + 1;
    $one->{sent}{$number} = now();
    # What an earlier datagram met may be told by this call, which sends nothing then.
    for my $try (1, 2) {
        last if defined send $one->{socket}, "#$number\n", 0;
        flow_line($one, $number, 'errno ' . ($! + 0), 'send') if $try == 2;
    }
}

sub flow_line {
    my ($one, $number, $outcome, $text) = @_;
    @$one{qw(number began)} = ($number, delete $one->{sent}{$number} // return);
    note($one, $outcome, $text);
    $one->{phase} = 'on';
}

sub hear_flow {
    my ($one) = @_;
    while (1) {
        my $peer = recv $one->{socket}, my $text, 4096, 0;
        unless (defined $peer) { last if $! == $EAGAIN; next }
        next unless $text =~ /^(.*) #(\d+)$/;
        flow_line($one, $2, 'answer', $1);
    }
}

sub hear {
    my ($one) = @_;
    return hear_flow($one) if $one->{stream}{kind} eq 'flow';
    my $n = sysread $one->{socket}, $one->{text}, 4096, length $one->{text};
    my $what = $one->{phase} eq 'open' && $one->{connecting} ? 'connect' : 'answer';
    if (!defined $n) { failed($one, 'errno ' . ($! + 0), $what) unless $! == $EAGAIN; return }
    return failed($one, 'closed', $what) if $n == 0;
    return unless $one->{text} =~ /\n$/;
    chomp $one->{text};
    note($one, 'answer', $one->{text});
    delete $one->{deadline};
    drop($one) if $one->{stream}{kind} eq 'short';
}

sub connected {
    my ($one) = @_;
    my $errno = unpack 'l', getsockopt $one->{socket}, SOL_SOCKET, SO_ERROR;
    return failed($one, "errno $errno", 'connect') if $errno;
    delete $one->{connecting};
}

sub tick {
    my ($stream) = @_;
    if ($stream->{kind} eq 'short') { begin($stream); return }
    if ($stream->{kind} eq 'flow')  { datagram($stream->{kept}[0] //= begin($stream)); return }
    for my $at (0 .. $stream->{count} - 1) {
        my $one = $stream->{kept}[$at];
        if (!ref $one || $one->{gone}) { $stream->{kept}[$at] = begin($stream) }
        else { ask($one) }
    }
}

$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($start, $flowing, $ending, $flushed) = (now(), 0, 0, 0);
while (1) {
    my $time = now();
    for my $one (values %open) {
        failed($one, 'timeout', $one->{connecting} ? 'connect' : 'answer') if $one->{deadline} && $time > $one->{deadline};
        for (keys %{ $one->{sent} }) { flow_line($one, $_, 'timeout', 'answer') if $time > $one->{sent}{$_} + ($ending ? 500 : 1000) }
    }
    if ($ending) { last unless grep { $_->{deadline} || %{ $_->{sent} } } values %open }
    my $next = $time + 50;
    unless ($ending) {
        for my $stream (@streams) {
            my $due = $start + $stream->{ticks} * $stream->{every};
            # A host that was busy does not make up for what it missed.
            if ($due <= $time) { $stream->{ticks} = int(($time - $start) / $stream->{every}) + 1; tick($stream) }
            $due = $start + $stream->{ticks} * $stream->{every};
            $next = $due if $due < $next;
        }
    }
    my ($r, $w) = ('', '');
    for (values %open) { if ($_->{connecting}) { vec($w, $_->{fd}, 1) = 1 } else { vec($r, $_->{fd}, 1) = 1 } }
    vec($r, 0, 1) = 1 unless $ending;
    my $wait = ($next - now()) / 1000;
    if (select($r, $w, undef, $wait > 0.001 ? $wait : 0.001) > 0) {
        for my $one (values %open) {
            if    (vec $w, $one->{fd}, 1) { connected($one) }
            elsif (vec $r, $one->{fd}, 1) { hear($one) }
        }
        if (!$ending && vec $r, 0, 1) { $ending = 1 if !sysread STDIN, my $nothing, 64 }
    }
    if (!$flowing && !grep { $_->{answered} < ($_->{kind} eq 'keep' ? $_->{count} : 1) } @streams) { $flowing = 1; $printed .= "flowing\n" }
    next if $printed eq '' || now() - $flushed < 50;
    print $printed;
    ($printed, $flushed) = ('', now());
}
print $printed;
