#!/usr/bin/perl
# Packets for the benches of network policy, in the network namespace it is started in; perl-base is all it needs.
#
#   policy-packets.pl sink PORT [ADDRESS]    answers datagrams that begin with "H"; a socket filter drops all others
#   policy-packets.pl source PORT            sends to such a sink, as the lines of its standard input say:
#
#     flood FROM TO COUNT     one established flow: a datagram that is answered, then COUNT that are not
#     flows FROM COUNT        COUNT datagrams, each to another address of 10.9.0.0/16 and so each the first of a flow
#     trips FROM TO COUNT     COUNT requests and answers on one established flow, one after the other
#     opens FROM TO COUNT     COUNT requests and answers, each on a flow of its own
#
# Each line is answered by one: how many datagrams were sent (or answered) and how many seconds that took. All frames have 64 bytes.
# Datagrams go out 64 a system call (sendmmsg(2)): on a veth the sender's processor carries each through the node to the sink.
use strict;
use warnings;
use Config;
use Socket;

my $is_arm = $Config{archname} =~ /aarch64/;
my ($SYS_sendmmsg, $SYS_clock_gettime) = $is_arm ? (269, 113) : (307, 228);
my ($SO_ATTACH_FILTER, $SO_SNDBUFFORCE, $MSG_DONTWAIT) = (26, 32, 0x40);
my ($PAYLOAD, $BATCH) = (22, 64);
my ($mode, $port, $address) = @ARGV;
my ($greeting, $filler) = ('H' x $PAYLOAD, 'x' x $PAYLOAD);

sub now {
    my @arguments = (1, "\0" x 16);    # CLOCK_MONOTONIC
    syscall $SYS_clock_gettime, @arguments;
    my ($seconds, $nanoseconds) = unpack 'qq', $arguments[1];
    return $seconds + $nanoseconds / 1e9;
}

sub udp {
    my ($address, $own_port) = @_;
    socket my $socket, PF_INET, SOCK_DGRAM, 0 or die "socket: $!\n";
    bind $socket, pack_sockaddr_in($own_port, inet_aton $address) or die "bind $address:$own_port: $!\n";
    return $socket;
}

sub connected {
    my ($from, $to) = @_;
    my $socket = udp($from, 0);
    connect $socket, pack_sockaddr_in($port, inet_aton $to) or die "connect $to: $!\n";
    return $socket;
}

# One request and its answer, tried again where it was lost.
sub trip {
    my ($socket, $to) = @_;
    for (1 .. 20) {
        send $socket, $greeting, 0;
        my $waiting = '';
        vec($waiting, fileno $socket, 1) = 1;
        return if select($waiting, undef, undef, 0.25) && defined recv $socket, my $answer, 64, 0;
    }
    die "no answer from $to\n";
}

my $iovec = pack 'P Q', $filler, $PAYLOAD;

# struct mmsghdr, one for each of these socket addresses ('' on a connected socket). It points into them: they must not be copies.
sub messages {
    return join '', map { pack('P L x4 P Q Q Q L x4', $_, length $_, $iovec, 1, 0, 0, 0) . pack 'L x4', 0 } @_;
}

my @nobody = ('') x $BATCH;
my $to_peer = messages(@nobody);
my (@name, @to_many);

sub send_batches {
    my ($socket, $vectors, $count) = @_;
    setsockopt $socket, SOL_SOCKET, $SO_SNDBUFFORCE, pack 'i', 1 << 24;
    my $descriptor = fileno $socket;
    my ($sent, $index, $begin) = (0, 0, now());
    while ($sent < $count) {
        my $done = syscall $SYS_sendmmsg, $descriptor, $vectors->[$index++ % @$vectors], $BATCH, 0;
        die "sendmmsg: $!\n" if $done <= 0;
        $sent += $done;
    }
    return ($sent, now() - $begin);
}

my %verb = (
    flood => sub {
        my ($from, $to, $count) = @_;
        my $socket = connected($from, $to);
        trip($socket, $to);
        return send_batches($socket, [$to_peer], $count);
    },
    flows => sub {
        my ($from, $count) = @_;
        while (@name < $count) {
            my $number = @name + 256;
            push @name, pack_sockaddr_in($port, pack 'C4', 10, 9, $number >> 8 & 255, $number & 255);
            push @to_many, messages(@name[-$BATCH .. -1]) if @name % $BATCH == 0;
        }
        return send_batches(udp($from, 0), \@to_many, $count);
    },
    trips => sub {
        my ($from, $to, $count) = @_;
        my $socket = connected($from, $to);
        trip($socket, $to);
        my $begin = now();
        trip($socket, $to) for 1 .. $count;
        return ($count, now() - $begin);
    },
    opens => sub {
        my ($from, $to, $count) = @_;
        my $begin = now();
        trip(connected($from, $to), $to) for 1 .. $count;
        return ($count, now() - $begin);
    },
);

$| = 1;
if ($mode eq 'sink') {
    my $socket = udp($address // '0.0.0.0', $port);
    # struct sock_filter: byte 8 of the datagram, the first behind its header; equal to "H": keep it whole; else: keep nothing.
    my $filter = pack '(S C C L)4', 0x30, 0, 0, 8, 0x15, 0, 1, ord 'H', 0x06, 0, 0, 0xffff, 0x06, 0, 0, 0;
    setsockopt $socket, SOL_SOCKET, $SO_ATTACH_FILTER, pack 'S x6 P', 4, $filter or die "filter: $!\n";
    print "ready\n";
    while (defined(my $peer = recv $socket, my $text, 64, 0)) { send $socket, $text, 0, $peer }
} else {
    print "ready\n";
    while (my $line = <STDIN>) {
        my ($what, @arguments) = split ' ', $line;
        print join(' ', $verb{$what}->(@arguments)), "\n";
    }
}
