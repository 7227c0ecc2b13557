from . import acnn as acnn, native as native, sslln as sslln
