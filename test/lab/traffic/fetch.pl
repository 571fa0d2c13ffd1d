#!/usr/bin/perl
# Asks an echo.pl's third port for bytes by TCP and prints how many came: `fetch.pl 4194304 10.244.2.11 7002 ...`, a line for each address and port.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6);

my $LIMIT_SECONDS = 20;

my ($length, @targets) = @ARGV;
$SIG{ALRM} = sub { die "not through after $LIMIT_SECONDS seconds\n" };
while (my ($address, $port) = splice @targets, 0, 2) {
    my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
    my $packed = inet_pton($family, $address) or die "not an address: $address\n";
    alarm $LIMIT_SECONDS;
    my $came = 0;
    my $line = eval {
        socket my $socket, $family, SOCK_STREAM, 0 or die "socket: $!\n";
        connect $socket, $family == AF_INET6 ? pack_sockaddr_in6($port, $packed) : pack_sockaddr_in($port, $packed) or die "connect: $!\n";
        syswrite $socket, "$length\n" or die "write: $!\n";
        while (my $n = sysread $socket, my $bytes, 1 << 18) { $came += $n }
        $came;
    };
    print defined $line ? "$line\n" : "failed after $came bytes: $@";
}
