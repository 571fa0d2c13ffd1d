#!/usr/bin/perl
# Answers at one port, over both families: what comes by UDP or TCP goes back as it came. At the next port TCP connections are read to their
# end and then told how much came and from where: `4194304 10.244.1.11`. At the third they say how many bytes they want, and get them.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6 AF_INET6);

my ($port) = @ARGV;
my (%on_read, %open);
my ($F_SETFL, $O_NONBLOCK) = (4, 2048);

sub listener {
    my ($type, $protocol, $at) = @_;
    socket my $socket, AF_INET6, $type, $protocol or die "socket: $!\n";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $socket, pack_sockaddr_in6($at, "\0" x 16) or die "bind port $at: $!\n";
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    $open{ fileno $socket } = $socket;
    return $socket;
}

sub forget { my ($socket) = @_; delete $on_read{ fileno $socket }; delete $open{ fileno $socket }; close $socket }

sub accepted {
    my ($listener, $take) = @_;
    my $peer = accept my $socket, $listener or return;
    fcntl $socket, $F_SETFL, $O_NONBLOCK;
    my ($count, $address) = (0, inet_ntop(AF_INET6, (unpack_sockaddr_in6($peer))[1]));
    $open{ fileno $socket } = $socket;
    $on_read{ fileno $socket } = sub {
        my $n = sysread $socket, my $bytes, 1 << 18;
        return if !defined $n && $!{EAGAIN};
        if ($n) { $count += $n; $take->($socket, $bytes); return }
        syswrite $socket, "$count " . ($address =~ s/^::ffff://r) . "\n" if defined $n;
        forget($socket);
    };
}

my $udp = listener(SOCK_DGRAM, 17, $port);
$on_read{ fileno $udp } = sub {
    while (my $peer = recv $udp, my $datagram, 65536, 0) { send $udp, $datagram, 0, $peer }
};
# A process of its own: it may wait for the reader.
sub give {
    my ($socket, $count) = @_;
    return if fork // die "fork: $!\n";
    fcntl $socket, $F_SETFL, 0;
    my $chunk = 'x' x 65536;
    for (my $left = $count; $left > 0;) { $left -= syswrite $socket, $chunk, $left < length $chunk ? $left : length $chunk or last }
    shutdown $socket, 1;
    exit 0;
}

for my $which ([$port, sub { syswrite $_[0], $_[1] }], [$port + 1, sub { }], [$port + 2, sub { give($_[0], $_[1] + 0); forget($_[0]) }]) {
    my $tcp = listener(SOCK_STREAM, 6, $which->[0]);
    listen $tcp, 64 or die "listen: $!\n";
    $on_read{ fileno $tcp } = sub { accepted($tcp, $which->[1]) };
}

$SIG{PIPE} = $SIG{CHLD} = 'IGNORE';
$| = 1;
print "serving\n";
while (1) {
    my $r = '';
    vec($r, $_, 1) = 1 for keys %on_read;
    next if select($r, undef, undef, undef) <= 0;
    for (grep { vec $r, $_, 1 } keys %on_read) { $on_read{$_}->() if $on_read{$_} }
}
