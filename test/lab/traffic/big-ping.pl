#!/usr/bin/perl
# Echo requests as packets of a given length, headers included, that nobody on the way may fragment: `big-ping.pl 1400 10.244.2.11 ...`. Prints a word a
# line: `echo`, `silence`, or `too big for 1380` where the kernel has learned that the path takes no more than so much.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6);

my ($IP_MTU_DISCOVER, $IP_MTU, $IPV6_MTU_DISCOVER, $IPV6_MTU, $IPV6_DONTFRAG, $DO) = (10, 14, 23, 24, 62, 2);
my ($length, @addresses) = @ARGV;

sub checksum {
    my $sum = 0;
    $sum += $_ for unpack 'n*', $_[0] . "\0";
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return ~$sum & 0xffff;
}

sub ping {
    my ($address) = @_;
    my $six = $address =~ /:/;
    my $family = $six ? AF_INET6 : AF_INET;
    socket my $socket, $family, SOCK_RAW, $six ? 58 : 1 or die "socket: $!\n";
    if ($six) { setsockopt $socket, 41, $IPV6_MTU_DISCOVER, $DO; setsockopt $socket, 41, $IPV6_DONTFRAG, 1 }
    else      { setsockopt $socket, 0, $IP_MTU_DISCOVER, $DO }
    connect $socket, $six ? pack_sockaddr_in6(0, inet_pton($family, $address)) : pack_sockaddr_in(0, inet_pton($family, $address)) or return "failed $!";
    my $id = $$ & 0xffff;
    my $body = pack('n2', $id, 1) . 'f' x ($length - ($six ? 48 : 28));
    my $type = $six ? 128 : 8;
    my $request = pack('C2 n', $type, 0, $six ? 0 : checksum(pack('C2 n', $type, 0, 0) . $body)) . $body;
    my $refused = sub { $!{EMSGSIZE} ? 'too big for ' . unpack('i', getsockopt $socket, $six ? 41 : 0, $six ? $IPV6_MTU : $IP_MTU) : "failed $!" };
    send $socket, $request, 0 or return $refused->();
    my $until = time + 2;
    while (time <= $until) {
        my $r = '';
        vec($r, fileno $socket, 1) = 1;
        next if select($r, undef, undef, 0.5) <= 0;
        defined recv $socket, my $packet, 65536, 0 or return $refused->();
        $packet = substr $packet, 4 * (ord($packet) & 15) unless $six;
        my ($got, $of) = unpack 'C x3 n', $packet;
        return 'echo' if $got == ($six ? 129 : 0) && $of == $id;
    }
    return 'silence';
}

$| = 1;
print ping($_), "\n" for @addresses;
