#!/usr/bin/perl
# Sends bytes by TCP to an echo.pl's second port and prints what it says came, then the segment size and the path MTU that TCP came to:
# `transfer.pl 4194304 10.244.2.11 7001 ...`, a line for each address and port.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6);

# Offsets in struct tcp_info (linux/tcp.h).
my ($TCP_INFO, $SND_MSS, $PMTU) = (11, 16, 60);
my $LIMIT_SECONDS = 20;

my ($length, @targets) = @ARGV;
$SIG{ALRM} = sub { die "not through after $LIMIT_SECONDS seconds\n" };
my $chunk = 'x' x 65536;
while (my ($address, $port) = splice @targets, 0, 2) {
    my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
    my $packed = inet_pton($family, $address) or die "not an address: $address\n";
    alarm $LIMIT_SECONDS;
    my $line = eval {
        socket my $socket, $family, SOCK_STREAM, 0 or die "socket: $!\n";
        connect $socket, $family == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed) or die "connect: $!\n";
        for (my $left = $length; $left > 0;) {
            my $n = syswrite $socket, $chunk, $left < length $chunk ? $left : length $chunk;
            defined $n or die "write: $!\n";
            $left -= $n;
        }
        shutdown $socket, 1;
        my $said = '';
        1 while sysread $socket, $said, 256, length $said;
        my $info = getsockopt $socket, 6, $TCP_INFO;
        join ' ', ($said =~ s/\n//r), map { unpack 'L', substr $info, $_, 4 } $SND_MSS, $PMTU;
    };
    print defined $line ? "$line\n" : "failed $@";
}
