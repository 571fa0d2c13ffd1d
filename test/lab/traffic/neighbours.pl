#!/usr/bin/perl
# Address resolution as another host of the LAN sees it, on eth0, by a packet socket: nothing of this host's own neighbour table is in the way.
#
#   neighbours.pl ask MILLISECONDS ADDRESS...   asks for each address once, as a host asks that has not met it (broadcast ARP request, neighbour
#                                               solicitation to the solicited-node group), and prints `ADDRESS MAC` for every answer in that time
#   neighbours.pl hear                          prints `hearing`, then what is said until it is ended: `MILLISECONDS WHAT MAC SENDER TARGET`, WHAT one of
#                                               request, reply (ARP), solicitation, advertisement (RFC 4861); times are of the lab's clock
use strict;
use warnings;
use Config;
use Socket qw(:DEFAULT inet_pton inet_ntop AF_INET6);

my ($AF_PACKET, $ETH_P_ALL, $ETH_P_ARP, $ETH_P_IPV6, $OUTGOING) = (17, 3, 0x0806, 0x86dd, 4);
my ($SIOCGIFINDEX, $SIOCGIFHWADDR, $SIOCGIFADDR) = (0x8933, 0x8927, 0x8915);
my $CLOCK_GETTIME = $Config{archname} =~ /aarch64/ ? 113 : 228;
$| = 1;

sub now {
    my @arguments = (1, "\0" x 16);    # CLOCK_MONOTONIC
    syscall($CLOCK_GETTIME, @arguments);
    my ($seconds, $nanoseconds) = unpack 'qq', $arguments[1];
    return $seconds + $nanoseconds / 1e9;
}

socket my $wire, $AF_PACKET, SOCK_RAW, unpack('S', pack 'n', $ETH_P_ALL) or die "packet socket: $!\n";
# What is not set in a struct ifreq is zero: 16 bytes of name, 24 of value.
my $link = pack 'a16 x24', 'eth0';
ioctl $wire, $SIOCGIFINDEX, $link or die "eth0: $!\n";
my $index = unpack 'x16 i', $link;
$link = pack 'a16 x24', 'eth0';
ioctl $wire, $SIOCGIFHWADDR, $link or die "hardware address of eth0: $!\n";
my $mac = substr $link, 18, 6;
bind $wire, pack 'S n i x12', $AF_PACKET, $ETH_P_ALL, $index or die "bind to eth0: $!\n";

sub mac_text { join ':', map { sprintf '%02x', $_ } unpack 'C6', shift }

sub own_ipv4 {
    my $request = pack 'a16 x24', 'eth0';
    ioctl $wire, $SIOCGIFADDR, $request or die "IPv4 address of eth0: $!\n";
    return substr $request, 20, 4;
}

# Of the scope of the LAN, so that routers need not be asked how to answer.
sub own_ipv6 {
    open my $file, '<', '/proc/net/if_inet6' or die "IPv6 addresses: $!\n";
    for (<$file>) { return pack 'H32', $1 if /^(fe80\w+) .* eth0$/ }
    die "eth0 has no link-local address\n";
}

sub checksum {
    my ($bytes) = @_;
    my $sum = 0;
    $sum += $_ for unpack 'n*', $bytes;
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return ~$sum & 0xffff;
}

sub ask_ipv4 {
    my ($target) = @_;
    my $arp = pack 'n n C C n a6 a4 a6 a4', 1, 0x0800, 6, 4, 1, $mac, own_ipv4(), "\0" x 6, $target;
    return pack 'a6 a6 n a*', "\xff" x 6, $mac, $ETH_P_ARP, $arp;
}

sub ask_ipv6 {
    my ($target) = @_;
    my $source = own_ipv6();
    my $group = inet_pton(AF_INET6, 'ff02::1:ff00:0');
    substr $group, 13, 3, substr $target, 13, 3;
    # Type 135 with the option of our own hardware address (RFC 4861 4.3).
    my $body = pack 'a16 C C a6', $target, 1, 1, $mac;
    my $sum = checksum($source . $group . pack('N x3 C', 8 + length $body, 58) . pack('C C n N', 135, 0, 0, 0) . $body);
    my $icmp = pack 'C C n N a*', 135, 0, $sum, 0, $body;
    my $packet = pack 'N n C C a16 a16 a*', 0x60000000, length $icmp, 58, 255, $source, $group, $icmp;
    return pack 'a6 a6 n a*', "\x33\x33" . substr($group, 12, 4), $mac, $ETH_P_IPV6, $packet;
}

# What was said in a frame: (WHAT, MAC, SENDER, TARGET), or nothing.
sub said {
    my ($frame) = @_;
    return if length $frame < 42;
    my ($from, $type) = unpack 'x6 a6 n', $frame;
    if ($type == $ETH_P_ARP) {
        my ($operation, $sender_mac, $sender, $target) = unpack 'x20 n a6 a4 x6 a4', $frame;
        my $what = { 1 => 'request', 2 => 'reply' }->{$operation} // return;
        return ($what, mac_text($sender_mac), inet_ntoa($sender), inet_ntoa($target));
    }
    return if $type != $ETH_P_IPV6 || length $frame < 78 || ord(substr $frame, 20, 1) != 58;
    my $what = { 135 => 'solicitation', 136 => 'advertisement' }->{ ord substr $frame, 54, 1 } // return;
    my $source = inet_ntop(AF_INET6, substr $frame, 22, 16);
    my $target = inet_ntop(AF_INET6, substr $frame, 62, 16);
    return ($what, mac_text($from), $source, $target);
}

sub next_said {
    my ($wait) = @_;
    my $until = defined $wait ? now() + $wait : undef;
    for (;;) {
        my $left = defined $until ? $until - now() : undef;
        return if defined $left && $left <= 0;
        my $ready = '';
        vec($ready, fileno $wire, 1) = 1;
        next unless select $ready, undef, undef, $left;
        my $from = recv $wire, my $frame, 65536, 0;
        next if !defined $from || (unpack 'x10 C', $from) == $OUTGOING;
        my @said = said($frame);
        return @said if @said;
    }
}

my ($mode, @arguments) = @ARGV;
if ($mode eq 'hear') {
    print "hearing\n";
    while (my @said = next_said()) { print join(' ', int(now() * 1000), @said), "\n" }
} elsif ($mode eq 'ask') {
    my ($milliseconds, @addresses) = @arguments;
    my %asked;
    for my $address (@addresses) {
        my $target = inet_pton($address =~ /:/ ? AF_INET6 : AF_INET, $address) // die "not an address: $address\n";
        $asked{ inet_ntop($address =~ /:/ ? AF_INET6 : AF_INET, $target) } = $address;
        send $wire, $address =~ /:/ ? ask_ipv6($target) : ask_ipv4($target), 0 or die "send: $!\n";
    }
    my $until = now() + $milliseconds / 1000;
    while (my ($what, $from, $sender, $target) = next_said($until - now())) {
        # An ARP reply is about its sender, an advertisement about its target.
        my $about = $what eq 'reply' ? $sender : $what eq 'advertisement' ? $target : next;
        print "$asked{$about} $from\n" if $asked{$about};
    }
} else {
    die "neighbours.pl ask MILLISECONDS ADDRESS... | hear\n";
}
