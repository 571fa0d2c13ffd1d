/** ICMP echo without ping(8), which a minimal Debian lacks. */
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';

/** RFC 792, RFC 4443: type 8 or 128, code 0, checksum (the kernel's business for ICMPv6), identifier and sequence. */
const SCRIPT = `
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
my $address = shift;
my $v6 = $address =~ /:/;
my $family = $v6 ? AF_INET6 : AF_INET;
socket(my $socket, $family, SOCK_RAW, $v6 ? 58 : 1) or die "socket: $!";
my $body = pack('n2 a8', $$ & 0xffff, 1, 'fairway!');
my $sum = 0;
$sum += $_ for unpack('n*', pack('C2 n', 8, 0, 0) . $body);
$sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
my $request = $v6 ? pack('C2 n', 128, 0, 0) . $body : pack('C2 n', 8, 0, ~$sum & 0xffff) . $body;
my $to = $v6 ? pack_sockaddr_in6(0, inet_pton($family, $address)) : pack_sockaddr_in(0, inet_pton($family, $address));
send($socket, $request, 0, $to) or die "send: $!";
$SIG{ALRM} = sub { print "silence\\n"; exit };
alarm 2;
while (1) {
  defined(my $from = recv($socket, my $packet, 1500, 0)) or next;
  $packet = substr($packet, 4 * (ord($packet) & 15)) unless $v6;
  my ($type, $id) = unpack('C x3 n', $packet);
  next unless $type == ($v6 ? 129 : 0) && $id == ($$ & 0xffff);
  print "echo\\n";
  last;
}
`;

/** Whether an address answers to an echo request within two seconds. */
export async function ping(lab: Lab, from: LabHost, address: string): Promise<'echo' | 'silence'> {
  const printed = await lab.expectRun(from, ['perl', '-e', SCRIPT, address]);
  return printed === 'echo\n' ? 'echo' : 'silence';
}
