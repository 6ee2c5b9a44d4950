set terminal svg noenhanced dynamic size 450,376 name 'predicted' font 'sans-serif,15'
set output 'predicted.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [0.00766080022:50.3853]
set xtics ('0.01' 0.01, '0.1' 0.1, '1' 1, '10' 10)
set logscale y
set yrange [0.00766080022:50.3853]
set ytics ('0.01' 0.01, '0.1' 0.1, '1' 1, '10' 10)
set xlabel 'measured ms' offset 0,0.9
set label 'predicted ms' at graph 0, graph 1.07 left
plot 'predicted.dat' index 0 using 1:2 with points lc rgb '#0072b2' lw 1.5 pt 6 ps 0.9 title 'forward', \
  'predicted.dat' index 1 using 1:2 with points lc rgb '#d55e00' lw 1.5 pt 4 ps 0.9 title 'backward', \
  'predicted.dat' index 2 using 1:2 with lines lc rgb 'black' lw 1.5 dt 3 title 'predicted = measured'
